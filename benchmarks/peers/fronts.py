"""Compare the fronts that our methods and Optuna's find: error against number of parameters, on real trainings.

    python benchmarks/peers/fronts.py [--quick] [--trainings 60] [--in-flight 8] [--seeds 15] [--trained FILE]

Task       A network of one or two hidden layers learns scikit-learn's digits (1,200 images, 10 epochs, in NumPy), and
           returns its error on the other 597 images and its number of parameters. Six hyper-parameters: units of both
           layers, the size of the images, the activation, the learning rate and the batch. A seed has its own split of
           the images and its own first weights; a training depends on these and its configuration alone.
In flight  Number of emulated slots (VirtualPool); durations are log-normal (median 60 s, sigma 0.6), so that results
           arrive out of order. Only methods with generations wait for theirs to end.
Volume     Hypervolume of all that was trained, as a share of the box from nothing to the reference point: an error of
           0.9 (a guess) and the parameters of the largest network. ``log`` is the same over the logarithm of the
           parameters, from the smallest network on; methods are told of the parameters as they are.
Against    Wins and losses of a method against each of Optuna's, seed by seed, and p of Wilcoxon's signed-rank test
           (two-sided, no correction for the number of methods).

Populations have 10 members, as a generation of the default 50 is nearly all of 60 trainings; Optuna's default is there,
too. Without Optuna its rows are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.answers import OWN_OPTIONS, Array, Method, Optuna, Ours, versus
from benchmarks.shared.numbers import EXTREMES, extremes
from benchmarks.shared.pictures import legend_below, panels, write
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, table
from swarm.manners.one_thread import one_thread
from swarm.optimizers import GA, Optimizer, Random, SurrogatePSO
from swarm.optimizers.front import hypervolume
from swarm.pool.virtual import VirtualPool
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Evaluation, Params

Targets = tuple[float, float]  # error, parameters

SPACE = Space(
    {
        "units": Integer(2, 64, log=True),
        "more_units": Integer(0, 32),  # 0: there is no second layer
        "pixels": Choice(2, 4, 8),  # of a side of an image
        "activation": Choice("relu", "tanh"),
        "rate": Real(1e-3, 1.0, log=True),
        "batch": Integer(16, 256, log=True),
    }
)
IMAGES, EPOCHS, MOMENTUM = 1200, 10, 0.9
GUESS, OTHERS = 0.9, "Optuna"
POPULATION = 10


# --- a training


def shape(params: Params) -> list[int]:
    """Numbers of units of all layers, from the pixels to the ten digits."""
    return [params["pixels"] ** 2, params["units"], *([params["more_units"]] if params["more_units"] else []), 10]


def size(params: Params) -> int:
    """Number of parameters of a network: weights and biases."""
    widths = shape(params)
    return sum((one + 1) * other for one, other in pairwise(widths))


SMALLEST, LARGEST = (
    size({"units": units, "more_units": more, "pixels": pixels}) for units, more, pixels in ((2, 0, 2), (64, 32, 8))
)


@cache
def digits(pixels: int) -> tuple[Array, Array]:
    """The images at ``pixels`` × ``pixels``, an array (1797, pixels²) of values from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pooled = images.reshape(-1, pixels, 8 // pixels, pixels, 8 // pixels).mean(axis=(2, 4)) / 16
    return pooled.reshape(len(pooled), -1), labels


def trained(params: Params, seed: int) -> Targets:
    """Error on the images that it has not seen, and number of parameters."""
    rng = np.random.default_rng([seed, 11])
    images, labels = digits(params["pixels"])
    order = rng.permutation(len(images))
    known, unseen = order[:IMAGES], order[IMAGES:]
    network = Network(shape(params), params["activation"], rng)
    with one_thread(), np.errstate(all="ignore"):  # what diverges has the error of a guess
        for _ in range(EPOCHS):
            mixed = rng.permutation(known)
            for start in range(0, IMAGES, params["batch"]):
                batch = mixed[start : start + params["batch"]]
                network.step(images[batch], labels[batch], params["rate"])
        error = float(np.mean(network.outputs(images[unseen])[-1].argmax(axis=1) != labels[unseen]))
    return error, float(size(params))


class Network:
    """Dense layers with one activation, and softmax of the last, trained by gradients with momentum."""

    def __init__(self, widths: Sequence[int], activation: str, rng: np.random.Generator) -> None:
        pairs = list(pairwise(widths))
        self._weights = [rng.normal(0, math.sqrt(2 / one), (one, other)) for one, other in pairs]
        self._biases = [np.zeros(other) for _, other in pairs]
        self._moving = [(np.zeros(pair), np.zeros(pair[1])) for pair in pairs]
        self._is_tanh = activation == "tanh"

    def outputs(self, images: Array) -> list[Array]:
        """What each layer makes of the images, from the images themselves to the last one's sums."""
        found = [images]
        for weights, biases in zip(self._weights, self._biases, strict=True):
            sums = found[-1] @ weights + biases
            last = len(found) == len(self._weights)
            found.append(sums if last else np.tanh(sums) if self._is_tanh else np.maximum(sums, 0))
        return found

    def step(self, images: Array, labels: Array, rate: float) -> None:
        """One step down the gradient of the cross entropy of a batch."""
        outputs = self.outputs(images)
        shares = np.exp(outputs[-1] - outputs[-1].max(axis=1, keepdims=True))
        error = shares / shares.sum(axis=1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        slopes = []
        for place in reversed(range(len(self._weights))):
            below = outputs[place]
            slopes.append((below.T @ error, error.sum(axis=0)))
            error = (error @ self._weights[place].T) * (1 - below**2 if self._is_tanh else below > 0)
        for place, (of_weights, of_biases) in enumerate(reversed(slopes)):
            weights, biases = self._moving[place]
            self._moving[place] = MOMENTUM * weights - rate * of_weights, MOMENTUM * biases - rate * of_biases
            self._weights[place] += self._moving[place][0]
            self._biases[place] += self._moving[place][1]


class Trainings:
    """Trains each configuration once per seed, for all methods; a file keeps the results between runs."""

    def __init__(self, file: Path | None = None) -> None:
        self.done = 0
        self._file = file
        lines = file.read_text().splitlines() if file and file.exists() else []
        self._known: dict[str, Targets] = {key: tuple(targets) for key, targets in map(json.loads, lines)}

    def __call__(self, params: Params, seed: int) -> Targets:
        key = json.dumps([seed, params], sort_keys=True)
        if key not in self._known:
            self._known[key] = trained(params, seed)
            self.done += 1
            if self._file:
                with self._file.open("a") as file:
                    file.write(json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]


# --- who searches


def methods(trainings: int) -> dict[str, Method]:
    """Ours, and of Optuna's what searches for a front, if it is installed."""
    generations = math.ceil(trainings / (POPULATION - 1))  # one of the elite is not asked for again

    def mine(optimizer: Optimizer) -> Method:
        return lambda space, seed, _: Ours(optimizer.start(space, seed=seed))

    found = {
        "SurrogatePSO": mine(SurrogatePSO(trials=trainings)),
        "GA": mine(GA(**{**OWN_OPTIONS["GA"], "population": POPULATION, "generations": generations})),
        "GA with defaults": mine(GA(population=POPULATION, generations=generations)),
        "Random": mine(Random(trials=trainings)),
    }
    if importlib.util.find_spec("optuna") is None:
        console.print("Optuna: left out, it is not installed (pip install optuna)", highlight=False)
        return found
    return found | {
        f"{OTHERS} TPE": _study("TPESampler"),
        f"{OTHERS} NSGA-II": _study("NSGAIISampler", population_size=POPULATION),
        f"{OTHERS} NSGA-II of 50": _study("NSGAIISampler"),
    }


def _study(sampler: str, **options: Any) -> Method:
    import optuna

    return lambda space, seed, _: Optuna(getattr(optuna.samplers, sampler)(seed=seed, **options), space, targets=2)


async def searched(method: Method, seed: int, trainings: int, in_flight: int, train: Trainings) -> list[Targets]:
    """What a search has trained, in the order in which it ended."""
    searcher = method(SPACE, seed, trainings)

    def seconds(evaluation: Evaluation) -> float:
        return 60.0 * math.exp(0.6 * np.random.default_rng([seed, evaluation.seed]).standard_normal())

    pool = VirtualPool(in_flight, lambda _: 0.0, seconds)
    flying: dict[str, tuple[Any, Params]] = {}
    found: list[Targets] = []
    asked = 0
    while len(found) < trainings:
        while pool.free() and asked < trainings and (next_one := searcher.ask()) is not None:
            evaluation = Evaluation.of("fronts", next_one[1], salt=str(asked))
            flying[evaluation.key] = next_one
            pool.submit([evaluation])
            asked += 1
        for result in await pool.next():
            ticket, params = flying.pop(result.key)
            found.append(train(params, seed))
            searcher.tell(ticket, found[-1])
    return found


# --- what is measured


def volume(found: Sequence[Targets]) -> float:
    """Hypervolume as a share of the box."""
    return hypervolume(found, (GUESS, LARGEST)) / (GUESS * LARGEST)


def log_volume(found: Sequence[Targets]) -> float:
    """The same over the logarithm of the parameters."""
    height = math.log(LARGEST / SMALLEST)
    return hypervolume([(error, math.log(size / SMALLEST)) for error, size in found], (GUESS, height)) / (
        GUESS * height
    )


MEASURES: dict[str, Callable[[Sequence[Targets]], float]] = {"volume": volume, "log": log_volume}
Volumes = dict[str, dict[str, Array]]  # by measure and method: (seeds, trainings)


def volumes(options: argparse.Namespace, train: Trainings) -> Volumes:
    """Of every method, seed and number of trainings."""
    growing: Volumes = {measure: {} for measure in MEASURES}
    for name, method in methods(options.trainings).items():
        runs = [
            asyncio.run(searched(method, seed, options.trainings, options.in_flight, train))
            for seed in range(options.seeds)
        ]
        for measure, of in MEASURES.items():
            growing[measure][name] = np.array([[of(run[: n + 1]) for n in range(len(run))] for run in runs])
    return growing


def summary(growing: Volumes, after: int) -> list[dict[str, Any]]:
    """A row for each method, the largest median volume first: its volumes, and how it compares with Optuna's."""
    ends = {measure: {name: each[:, after - 1] for name, each in found.items()} for measure, found in growing.items()}
    rows = []
    for name in ends["volume"]:
        row: dict[str, Any] = {"method": name}
        for measure, found in ends.items():
            row[measure] = [round(float(value), 5) for value in found[name]]
            if not name.startswith(OTHERS):
                against = {peer: versus(-found[name], -found[peer]) for peer in found if peer.startswith(OTHERS)}
                row[f"{measure}_against"] = against
        rows.append(row)
    return sorted(rows, key=lambda row: -float(np.median(row["volume"])))


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Print the rows."""
    peers = [row["method"] for row in rows if row["method"].startswith(OTHERS)]
    for measure in MEASURES:
        made = table(f"{title}: {measure}", ("method", *EXTREMES, *(f"against {peer} (p)" for peer in peers)))
        for row in sorted(rows, key=lambda row: -float(np.median(row[measure]))):
            against = row.get(f"{measure}_against", {})
            told = [f"{each['wins']} : {each['losses']} ({each['p']:.1g})" for each in map(against.get, peers) if each]
            made.add_row(row["method"], *extremes(row[measure], ".4f"), *told)
        console.print(made)


def draw(growing: Volumes) -> None:
    """What is missing of the whole box, the median of the seeds, over the trainings."""
    figure, axes = panels(13, 4.5, columns=len(MEASURES))
    for axis, (measure, found) in zip(axes, growing.items(), strict=True):
        for i, (name, each) in enumerate(found.items()):
            middle = 1 - np.median(each, axis=0)
            axis.plot(np.arange(1, len(middle) + 1), middle, "--" if OTHERS in name else "-", color=f"C{i}", label=name)
        axis.set(title=measure, yscale="log", xlabel="trainings", ylabel="not dominated, median")
    legend_below(figure, axes[0], columns=4)
    write(figure, "fronts", "fronts.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 24 trainings")
    parser.add_argument("--trainings", type=positive, default=60)
    parser.add_argument("--in-flight", type=positive, default=8, metavar="N")
    parser.add_argument("--seeds", type=positive, default=15)
    parser.add_argument("--trained", type=Path, metavar="FILE", help="keep every training in it, and use those it has")
    options = parser.parse_args()
    if options.quick:
        options.trainings, options.seeds = min(options.trainings, 24), min(options.seeds, 2)
    train = Trainings(options.trained)
    growing = volumes(options, train)
    points = [after for after in (30,) if after < options.trainings]
    found = {str(after): summary(growing, after) for after in (*points, options.trainings)}
    for after, rows in found.items():
        show(rows, f"Hypervolume after {after} trainings, {options.in_flight} in flight, {options.seeds} seeds")
    result = {
        "quick": options.quick, "seeds": options.seeds, "in_flight": options.in_flight,
        "reference": {"error": GUESS, "parameters": LARGEST}, "space": SPACE.to_dict(),
        "packages": {name: version(name) for name in ("optuna", "scipy") if importlib.util.find_spec(name)},
        "after": found,
    }  # fmt: skip
    console.print(f"{train.done} trainings")
    save("fronts", result)
    draw(growing)


if __name__ == "__main__":
    main()
