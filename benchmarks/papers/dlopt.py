"""Architectures found without training, weights found without gradients: the claims of DLOPT, on its series.

    SWARM_DATA=data python benchmarks/papers/dlopt.py [--quick] [--seeds 31] [--evaluations 200] [--processes 2]
                                               [--parts architectures landscape winners weights throughput training]
                                               [--series sine sum-of-sines parking]

architectures  The (μ+λ) evolution of lists of layers, and the guided swarm, against random search: on the sine and the
               sum of nine sines of DLOPT's ff-sin (1 … 6 layers of 1 … 16 units, look back 2 … 20), of which one period
               says all, and on the 28 car parks (1 … 4 layers of 5 … 60 units, look back 2 … 10). 200 evaluations each,
               unless told otherwise: with 30 random networks, the best 16 again with 60, the best 4 of these with 250
               (they are 20 of the 200). What each has found is then scored with 6,000 fresh random networks, so that
               nobody is paid for luck. p is one-sided: how often chance makes as much of what random search found.
landscape      How hard that is: log p of 100 random architectures (1,500 networks), and how much log p of what random
               search found first varies from one draw of 30 networks to the next, and from one of 6,000.
winners        What the first searches of each method have found is trained, beside random architectures: error on V.
training       log p of 24 random architectures (100 samples) against the error of the same when trained, by look-back.
weights        Networks of the sine whose weights evolve, against the best of random networks, at equal evaluations.
throughput     Random networks per second: all at once, one by one, and one by one through Keras as DLOPT does it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import EXTREMES, extremes
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import earlier, positive, save
from benchmarks.shared.tables import console, print_table
from swarm.manners.one_thread import one_thread
from swarm.optimizers import MuPlusLambda, Optimizer, Random, Rescored, SurrogatePSO
from swarm.space import Space
from swarm.trial import Evaluation, Params
from swarm.workers.context import Context
from swarm.workers.recurrent import drawn, errors
from swarm.workers.recurrent.evolution import METHODS
from swarm.workers.recurrent.sampling import problem
from swarm.workers.recurrent.weights import WeightEvolution

FINALS = ((16, 60), (4, 250))  # configurations, and networks of each
SAMPLES = 100
FRESH = 6000  # networks that score what was found
OBOE = (1.0, 0.95, 2.1, 0.2, 0.25, 0.25, 0.6, 0.3, 0.2)  # amplitudes of the harmonics
LISTS = {"layers": (1, 6), "units": (1, 16), "look_back": (2, 20)}
SEARCHES: dict[str, dict[str, Any]] = {
    "sine": {**LISTS, "windows": 10},
    "sum-of-sines": {**LISTS, "data": {"name": "fourier", "amplitudes": OBOE, "step": 0.05}, "windows": 20},
    "parking": {
        "data": "parking", "activation": "sigmoid", "layers": (1, 4), "units": (5, 60), "look_back": (2, 10),
        "windows": 190,
    },
}  # fmt: skip
STEPS = {"sine": 5, "sum-of-sines": 5, "parking": 18}  # a third of the range of the units
NETWORKS = ((1, (2, 2), 2, 100), (1, (2, 2), 2, 600), (1, (10, 10), 10, 600), (28, (30, 30), 2, 950))
"""Inputs, units, look-back, and the steps of the series: the listing's network first."""
TRAINED = 11  # of what each method has found
DRAWS = 15  # of as many networks of one architecture
PARTS = ("architectures", "landscape", "winners", "weights", "throughput", "training")


# --- architectures


def methods(evaluations: int, step: int) -> dict[str, Optimizer]:
    """Each with as many evaluations, the finalists among them."""
    first = evaluations - sum(top for top, _ in FINALS)
    rates = {"gene_rate": 0.3, "length_rate": 0.3, "step": step}
    sizes = {"population": 20, "children": 10}  # a score is noisy: a few lucky ones must not be all the parents
    plus = {**sizes, "evaluations": first, "restarts": 0, "migrants": 0, **rates}
    of: dict[str, Optimizer] = {
        "(μ+λ)": MuPlusLambda(**plus),
        "(μ+λ), self-adjusting": MuPlusLambda(**plus, mutation="step", adapt=True),
        "guided swarm": SurrogatePSO(trials=first),
        "random search": Random(trials=first),
    }
    for top, budget in FINALS:
        of = {name: Rescored(of=method, top=top, budget=budget) for name, method in of.items()}
    return of


@one_thread()  # a search per core: what more threads did on two cores was to wait for one another
def found(series: str, name: str, evaluations: int, seed: int) -> tuple[float, int, Params]:
    """What a method finds, scored afresh, and the number of evaluations that it took; seeds are those of a search."""
    sampler = problem(**SEARCHES[series])
    optimizer = methods(evaluations, STEPS[series])[name].start(Space.parse(sampler.space), seed=seed)
    spent = 0
    while not optimizer.done:
        trial = optimizer.ask()
        assert trial is not None
        evaluation = Evaluation.of(sampler.name, trial.params, budget=trial.budget, salt=str(seed))
        optimizer.tell(trial, -sampler(trial.params, Context.of(evaluation))["fitness"])
        spent += 1
    assert optimizer.best is not None
    params = optimizer.best[0].params
    return sampler(params, Context(seed=10_000 + seed, budget=FRESH))["fitness"], spent, params


def there(chosen: Sequence[str]) -> Iterator[str]:
    """Those of the series whose data there are."""
    for series in chosen:
        if series == "parking" and not Path(os.environ.get("SWARM_DATA", ""), "parking-birmingham").is_dir():
            console.print("parking: no parking-birmingham in the folder that SWARM_DATA names, left out")
        else:
            yield series


def architectures(chosen: Sequence[str], seeds: int, evaluations: int, processes: int) -> list[dict[str, Any]]:
    """Every method on every series that there is; p of Mann and Whitney that random search is as good."""
    from scipy.stats import mannwhitneyu

    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for series in there(chosen):
            for name in methods(evaluations, STEPS[series]):
                ends = list(pool.map(found, *zip(*[(series, name, evaluations, i) for i in range(seeds)], strict=True)))
                scores, spent, params = (list(each) for each in zip(*ends, strict=True))
                rows.append(
                    {
                        "series": series, "method": name, "evaluations": sorted(set(spent)), "log_p": scores,
                        "fresh": FRESH, "params": params, "finals": FINALS,
                    }
                )  # fmt: skip
                console.print(f"{series}, {name}: {statistics.median(scores):.2f}", style="dim")
            plain = rows[-1]["log_p"]  # of random search
            for row in rows:
                if row["series"] == series:
                    row["p"] = float(mannwhitneyu(row["log_p"], plain, alternative="greater").pvalue)
    return rows


def show_architectures(rows: list[dict[str, Any]]) -> None:
    print_table(
        "log p of what was found, by fresh networks (higher is better)",
        ("series", "method", "evaluations", *EXTREMES, "random is as good, p"),
        (
            (row["series"], row["method"], ", ".join(map(str, row["evaluations"])), *extremes(row["log_p"], ".2f"),
             f"{row['p']:.2g}")
            for row in rows
        ),
        words=["method"],
    )  # fmt: skip


# --- how hard it is to find one


def landscape(rows: list[dict[str, Any]], count: int, networks: int, processes: int) -> list[dict[str, Any]]:
    """Scores of random architectures, and of one architecture again and again."""
    looked: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for series in there(list(dict.fromkeys(row["series"] for row in rows))):
            space = Space.parse(problem(**SEARCHES[series]).space)
            some = [space.sample(np.random.default_rng(seed)) for seed in range(count)]
            scores = list(pool.map(score, [series] * count, some, range(count), [networks] * count))
            (one,) = (row["params"][0] for row in rows if (row["series"], row["method"]) == (series, "random search"))
            again = {
                size: list(pool.map(score, [series] * DRAWS, [one] * DRAWS, range(DRAWS), [size] * DRAWS))
                for size in (30, FRESH)
            }
            looked.append({"series": series, "networks": networks, "log_p": scores, "one": one, "draws": again})
            varies = ", ".join(f"{statistics.stdev(each):.2f} by {size:,}" for size, each in again.items())
            console.print(f"{series}: any {statistics.median(scores):.2f}, one varies by {varies}", style="dim")
    return looked


@one_thread()
def score(series: str, params: Params, seed: int, networks: int) -> float:
    """Log p of an architecture by fresh networks."""
    found = problem(**SEARCHES[series])(params, Context(seed=20_000 + seed, budget=networks))
    return float(found["fitness"])


def show_landscape(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    medians = {row["series"]: statistics.median(row["log_p"]) for row in found if row["method"] == "random search"}
    print_table(
        "log p of random architectures",
        ("series", *EXTREMES, "as good as random search found", "one of 30 varies by", f"of {FRESH:,} by"),
        (
            (row["series"], *extremes(row["log_p"], ".2f"),
             f"{np.mean(np.array(row['log_p']) >= medians[row['series']]):.0%}",
             *(f"{statistics.stdev(each):.2f}" for each in row["draws"].values()))
            for row in rows
        ),
    )  # fmt: skip


# --- what was found, trained


def winners(rows: list[dict[str, Any]], epochs: int, processes: int) -> list[dict[str, Any]]:
    """Errors on V of what the searches found, trained, and of as many random architectures."""
    from scipy.stats import mannwhitneyu

    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for series in there(list(dict.fromkeys(row["series"] for row in rows))):
            mine = {row["method"]: row["params"][:TRAINED] for row in rows if row["series"] == series}
            space, number = Space.parse(problem(**SEARCHES[series]).space), len(next(iter(mine.values())))
            mine["any architecture"] = [space.sample(np.random.default_rng(seed)) for seed in range(number)]
            errors = {
                name: list(pool.map(trained, [series] * number, each, range(number), [epochs] * number))
                for name, each in mine.items()
            }
            for name, each in errors.items():
                p = float(mannwhitneyu(each, errors["any architecture"], alternative="less").pvalue)
                found.append({"series": series, "method": name, "mae": each, "p": p, "epochs": epochs})
                console.print(f"{series}, {name}, trained: {statistics.median(each):.4f}", style="dim")
    return found


def trained(series: str, params: Params, seed: int, epochs: int) -> float:
    """Mean absolute error on V of an architecture after training."""
    options = {"epochs": epochs, "learning_rate": 5e-3, "dropout": 0.0, "patience": epochs}
    sampler = problem(**SEARCHES[series], training=options)
    return float(sampler.trainer()(params, Context(seed=seed))["mae"])


def show_winners(rows: list[dict[str, Any]]) -> None:
    print_table(
        "mean absolute error on V of what was found, trained",
        ("series", "method", *EXTREMES, "any is as good, p"),
        ((row["series"], row["method"], *extremes(row["mae"], ".4f"), f"{row['p']:.2g}") for row in rows),
        words=["method"],
    )


# --- log p and training


def training(count: int, epochs: int) -> dict[str, Any]:
    """Log p and trained error of random architectures for the sine."""
    from scipy.stats import pearsonr, spearmanr

    from swarm.workers.recurrent.keras_network import RecurrentTraining

    sampler = problem(layers=(1, 3), units=(1, 10), look_back=(2, 20))
    trainer = RecurrentTraining(epochs=epochs, learning_rate=5e-3, dropout=0.0, patience=epochs)
    space = Space.parse(sampler.space)
    chosen = Random(trials=count).start(space, seed=1)
    points = []
    while not chosen.done:
        trial = chosen.ask()
        assert trial is not None
        log_p = sampler(trial.params, Context(seed=trial.id, budget=SAMPLES))["fitness"]
        error = trainer(trial.params, Context(seed=trial.id))["mae"]
        chosen.tell(trial, error)
        points.append({**trial.params, "log_p": log_p, "mae": error})
        console.print(f"{trial.params}: log p {log_p:.1f}, trained {error:.4f}", style="dim")
    x, y = [point["log_p"] for point in points], [point["mae"] for point in points]
    return {
        "architectures": points,
        "epochs": epochs,
        "pearson": pearsonr(x, y).statistic,
        "pearson_of_log_mae": pearsonr(x, np.log(y)).statistic,
        "spearman": spearmanr(x, y).statistic,
        "spearman_p": spearmanr(x, y).pvalue,
    }


# --- weights


def weights(seeds: int, generations: int) -> list[dict[str, Any]]:
    """Errors on V of networks whose weights evolved."""
    rows = []
    for method in METHODS:
        scores, curves, evaluations = [], [], set()
        for seed in range(seeds):
            reports: list[Any] = []
            ctx = Context(seed=seed, _send=reports.append)
            result = WeightEvolution(method=method, generations=generations)({}, ctx)
            scores.append(result["fitness"])
            evaluations.add(int(result["evaluations"]))
            curves.append([report["train_error"] for report in reports])
        middle = np.median(curves, axis=0).tolist()
        ticks = [int(report["generation"]) for report in reports]
        rows.append(
            {"method": method, "evaluations": sorted(evaluations), "mae": scores, "generations": ticks, "curve": middle}
        )
    return rows


def show_weights(rows: list[dict[str, Any]]) -> None:
    print_table(
        "mean absolute error on V of the sine network with evolved weights",
        ("method", "networks tried", *EXTREMES),
        ((row["method"], ", ".join(map(str, row["evaluations"])), *extremes(row["mae"], ".4f")) for row in rows),
    )


# --- throughput


def rate(work: Any, networks: int, seconds: float) -> float:
    """Networks per second, the best of some attempts that together take so long: others use this machine, too."""
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        best = max(best, networks / (time.perf_counter() - began))
    return best


@one_thread()
def throughput(seconds: float) -> list[dict[str, Any]]:
    """Random networks per second, on one core."""
    from swarm.workers.recurrent import Architecture
    from swarm.workers.recurrent.keras_network import build

    rows = []
    rng = np.random.default_rng(0)
    for inputs, units, look_back, steps in NETWORKS:
        architecture = Architecture(inputs, units, inputs, look_back)
        windows = rng.random((steps - look_back, look_back, inputs), dtype=np.float32)
        targets = rng.random((len(windows), inputs), dtype=np.float32)
        many = drawn({}, (100, architecture.size), rng)
        model = build(architecture)
        model.predict(windows, verbose=0)  # traced

        def together(architecture=architecture, many=many, windows=windows, targets=targets) -> None:
            errors(architecture, many, windows, targets)

        def singly(architecture=architecture, many=many, windows=windows, targets=targets) -> None:
            for i in range(20):
                errors(architecture, many[i : i + 1], windows, targets)

        def keras(architecture=architecture, many=many, windows=windows, targets=targets, model=model) -> None:
            for i in range(3):
                model.set_weights([each[i] for each in architecture.tensors(many)])
                np.abs(model.predict(windows, batch_size=len(windows), verbose=0) - targets).mean()

        row = {
            "network": architecture.layers, "look_back": look_back, "steps": steps, "weights": architecture.size,
            "together": rate(together, 100, seconds), "one_by_one": rate(singly, 20, seconds),
            "keras_one_by_one": rate(keras, 3, seconds),
        }  # fmt: skip
        row["ratio"] = row["together"] / row["one_by_one"]
        row["ratio_to_keras"] = row["together"] / row["keras_one_by_one"]
        rows.append(row)
    return rows


def show_throughput(rows: list[dict[str, Any]]) -> None:
    print_table(
        "random networks per second on one core",
        ("network", "look back", "steps", "together", "one by one", "ratio", "Keras, one by one", "ratio"),
        (
            (row["network"], row["look_back"], row["steps"], f"{row['together']:.0f}", f"{row['one_by_one']:.0f}",
             f"{row['ratio']:.1f}", f"{row['keras_one_by_one']:.1f}", f"{row['ratio_to_keras']:.0f}")
            for row in rows
        ),
    )  # fmt: skip


# --- all of it


def draw(result: dict[str, Any]) -> None:
    figure, axes = panels(24, 4, columns=5)
    for panel, series in zip(axes, SEARCHES, strict=False):
        rows = [row for row in result.get("architectures", []) if row["series"] == series]
        if rows:
            panel.boxplot([row["log_p"] for row in rows], tick_labels=[r["method"].replace(" ", "\n") for r in rows])
        panel.set(title=f"architectures for {series}", ylabel=f"log p by {FRESH:,} networks")
    if "training" in result:
        points = result["training"]["architectures"]
        x, y = [point["log_p"] for point in points], [point["mae"] for point in points]
        dots = axes[3].scatter(x, y, c=[point["look_back"] for point in points])
        figure.colorbar(dots, label="look back")
        title = f"Pearson r = {result['training']['pearson']:+.2f}, Spearman {result['training']['spearman']:+.2f}"
        axes[3].set(title=title, xlabel=f"log p by {SAMPLES} networks", ylabel="error on V, trained", yscale="log")
    for row in result.get("weights", []):
        axes[4].plot(row["generations"], row["curve"], label=row["method"])
    axes[4].set(title="weights of the sine network", xlabel="generations of 50", ylabel="error on T", yscale="log")
    if "weights" in result:
        axes[4].legend(frameon=False)
    write(figure, "dlopt", "dlopt.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 or 2 seeds, fewer evaluations")
    parser.add_argument("--seeds", type=positive, help="default: 31 of architectures, 7 of weights")
    parser.add_argument("--evaluations", type=int, help="of each search for architectures; default: 200")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that search for architectures at once")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    of = "of architectures and winners"
    parser.add_argument("--series", nargs="+", choices=list(SEARCHES), default=list(SEARCHES), help=of)
    options = parser.parse_args()
    result = earlier("dlopt", PARTS)
    if "throughput" in options.parts:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})  # the threads of TensorFlow, too
        result["throughput"] = throughput(1.0 if options.quick else 3.0)
        os.sched_setaffinity(0, cores)
        show_throughput(result["throughput"])
    if "weights" in options.parts:
        result["weights"] = weights(options.seeds or (1 if options.quick else 7), 50 if options.quick else 200)
        show_weights(result["weights"])
    if "architectures" in options.parts:
        others = [row for row in result.get("architectures", []) if row["series"] not in options.series]
        result["architectures"] = others + architectures(
            options.series,
            options.seeds or (2 if options.quick else 31),
            options.evaluations or (60 if options.quick else 200),
            options.processes,
        )
        show_architectures(result["architectures"])
    if "landscape" in options.parts and "architectures" in result:
        chosen = [row for row in result["architectures"] if row["series"] in options.series]
        others = [row for row in result.get("landscape", []) if row["series"] not in options.series]
        count, networks = (10, 100) if options.quick else (100, 1500)
        result["landscape"] = others + landscape(chosen, count, networks, options.processes)
        show_landscape(result["landscape"], result["architectures"])
    if "winners" in options.parts and "architectures" in result:
        chosen = [row for row in result["architectures"] if row["series"] in options.series]
        others = [row for row in result.get("winners", []) if row["series"] not in options.series]
        result["winners"] = others + winners(chosen, 2 if options.quick else 30, options.processes)
        show_winners(result["winners"])
    if "training" in options.parts:
        result["training"] = training(24, epochs=10 if options.quick else 20)
        found = {name: f"{value:+.3g}" for name, value in result["training"].items() if isinstance(value, float)}
        console.print(f"log p and trained error of 24 architectures: {found}")
    save("dlopt", result)
    draw(result)


if __name__ == "__main__":
    main()
