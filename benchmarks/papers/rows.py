"""What the papers claim, and what was found of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from scipy.stats import wilcoxon

from benchmarks.shared.numbers import many, percent, ranged
from benchmarks.shared.rows import CLAIMS, SCALE, Reader, Result, Row

PSO_PAPER, HPO_PAPER, GA_PAPER = "Parallel PSO", "HPO report", "Recombination"
DLOPT_PAPER, NHOP_PAPER = "DLOPT", "NHOP"
PSO_COMMAND = "SWARM_DATA=data python benchmarks/papers/parallel_pso.py"


SAID: dict[str, dict[str, str]] = {
    "simplenet1": {
        "name": "SimpleNet-1",
        "quality": "no difference, p = 0.1471 (average) and 0.2113 (best); figure 5",
        "archive": "answers at least 80 % of the evaluations; rarely a training after generation 25; figure 7",
        "speed": "about 2; figures 6 and 8",
    },
    "lenet4": {
        "name": "LeNet-4",
        "quality": "99.36 % against 99.08 %, p = 0.0629 (average), 0.0074 (best); figure 10, section 4.3",
        "archive": "often more than half of the evaluations are trained; reads still grow at the end; figure 12",
        "speed": "not given: a fold takes less than 3 hours on six GPUs; figures 11 and 13",
    },
}


def parallel_pso(result: Result) -> Iterator[Row]:
    for model, found in result["models"].items():
        yield from _swarms(SAID[model], found)
        if model == "lenet4":
            networks = {str(params) for params in found["found_by_fold"]}
            yield Row(
                CLAIMS, "LeNet-4: hyper-parameters found (C0 n, sF; P0 sP, ℓ; C1 n, sF; P1 sP, ℓ; FC0)",
                ", ".join(str(value) for value in found["found"].values()), found["caption"], PSO_COMMAND,
                f"{PSO_PAPER}: 29, 8, 3, 2, 92, 5, 2, 1, 258; original 24, 5, 2, 2, 50, 5, 2, 2, 500; table 2",
                gap=f"LeNet-4's hyper-parameters are others than in table 2: {len(found['found_by_fold'])} folds found "
                f"{len(networks)} different networks; the paper's own last stride, 1, is outside its bounds.",
            )  # fmt: skip


def _swarms(said: dict[str, str], found: Result) -> Iterator[Row]:
    """Setups A and B of one network."""
    name, a, b = said["name"], found["setups"]["A"], found["setups"]["B"]
    folds, generations = found["scale"]["folds"], found["scale"]["generations"]
    scale = f"{found['caption']}; workers sleep as long as recorded trainings, {found['scale']['shorter']:g} × shorter"
    p = {kind: each["p"] for kind, each in found["wilcoxon"].items()}
    yield Row(
        CLAIMS, f"{name}: the parallel swarm finds what the serial one does",
        f"test accuracy of the folds' best: {percent(b['test'])} on six, {percent(a['test'])} on one; "
        f"p = {p['average']:.3f} (average on V), {p['test']:.3f} (best on the test set)",
        scale, PSO_COMMAND, f"{PSO_PAPER}: {said['quality']}",
        gap=None if found["scale"]["train"] is None else f"{name}'s accuracies are lower than the paper's, as the "
        f"networks saw few images for few epochs; with {folds} folds p cannot be below {2.0 ** (1 - folds):.3g}.",
    )  # fmt: skip
    shares = [trained / all_ for trained, all_ in zip(b["trained"], b["evaluations"], strict=True)]
    small = name == "SimpleNet-1"
    missed = 1 - max(shares) < 0.8 if small else max(shares) <= 0.5
    yield Row(
        CLAIMS, f"{name}: the archive answers instead of a training",
        f"{100 * (1 - statistics.mean(shares)):.0f} % ({100 * (1 - max(shares)):.0f} to {100 * (1 - min(shares)):.0f} "
        f"% by fold); more than half is trained in {sum(share > 0.5 for share in shares)} of {folds} folds; last "
        f"training in generation {statistics.median(b['last_training']):.0f} (median)",
        scale, PSO_COMMAND, f"{PSO_PAPER}: {said['archive']}",
        gap=f"{name}: the archive's share is not the paper's, as {generations} generations were run of its 100: with "
        "made-up losses the same swarm comes to the paper's share in 100 (see the row on that)." if missed else None,
    )  # fmt: skip
    yield Row(
        CLAIMS, f"{name}: speed-up of six workers over one",
        f"{found['speedup']:.2f} over the serial swarm, {found['speedup_of_b']:.2f} over its trainings one after "
        f"another (on one worker it asks for {'the same' if found['same'] else 'OTHER'} networks)",
        scale, PSO_COMMAND, f"{PSO_PAPER}: {said['speed']}",
        gap=f"{name}'s speed-up is {found['speedup']:.1f} instead of 2. It depends on how many trainings a generation "
        "still has, so on the space, whose upper bounds table 1 does not give, and on the number of generations."
        if small and not 1.5 <= found["speedup"] <= 2.5 else None,
    )  # fmt: skip


def archive_share(result: Result) -> Iterator[Row]:
    for network in dict.fromkeys(row["network"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["network"] == network]
        noises = ", ".join(f"{row['noise']:g}" for row in rows)
        said = [
            f"after {look} generations " + ", ".join(f"{100 * row['median'][look]:.0f} %" for row in rows)
            for look in (12, 30, 100)
        ]
        last = ", ".join(f"{statistics.median(row['last']):.0f}" for row in rows)
        yield Row(
            CLAIMS, f"{network}: the archive's share over the paper's 100 generations, with made-up losses",
            f"{'; '.join(said)} (noise {noises}); last training in generation {last}",
            f"the paper's swarm and space, medians of {many(len(rows[0]['last']), 'seed')}; nothing is trained",
            "python benchmarks/papers/archive_share.py",
            f"{PSO_PAPER}: {next(each['archive'] for each in SAID.values() if each['name'] == network)}",
        )  # fmt: skip


def lenet(result: Result) -> Iterator[Row]:
    original, found = result["networks"]["original"], result["networks"]["found"]
    counts, (images, epochs) = result["counts"], (result["trained_on"][key] for key in ("train", "epochs"))
    seeds = len(found["accuracy"])
    yield Row(
        CLAIMS, "LeNet-4: the swarm betters the network that an expert tuned",
        f"test accuracy {percent(original['accuracy'])} → {percent(found['accuracy'])}{certain(result.get('p'))}, with "
        f"{found['parameters'] / original['parameters']:.2f} × the parameters and "
        f"{found['seconds'] / original['seconds']:.1f} × the training time",
        f"found by {counts['trained']} trainings of 10,000 images, 1 epoch; both trained on "
        f"{'all images' if images is None else f'{images:,} images'}, {many(epochs, 'epoch')}; "
        f"{many(seeds, 'seed')} each",
        f"SWARM_DATA=data python benchmarks/papers/lenet4.py --seeds {seeds} --epochs {epochs}",
        f"{PSO_PAPER}: 98.9 % → 99.36 %; section 4.3, table 2",
        gap=None if statistics.mean(found["accuracy"]) > statistics.mean(original["accuracy"]) else
        "LeNet-4: trained on all images the found network is no better than the original one; it was chosen for what "
        "it had learned from a sixth of them in one epoch.",
    )  # fmt: skip


def hpo_report(result: Result) -> Iterator[Row]:
    command, methods = "SWARM_DATA=data python benchmarks/papers/hpo_report.py", result["methods"]
    scale = f"{result['caption']}; {many(len(methods['PSO']), 'seed')}, 95 % intervals"
    cut = result["scale"]["train"] is not None
    found = {
        name: {kind: f"{100 * mean:.1f} ± {100 * half:.1f} %" for kind, (mean, half) in each.items()}
        for name, each in result["intervals"].items()
    }
    said = {
        "Grid": "too dear to run: 7.4e8 epochs",
        "Random": "67.83 % after 3,981 epochs, one run",
        "PSO": "66.8 % after 4,000 epochs, one run",
        "BOHB": "66.5 % after 1,600 epochs, one run",
    }
    for method in methods:
        if method == "original":
            continue
        yield Row(
            CLAIMS, f"LeNet-5 on CIFAR-10 at equal epochs: {method}",
            f"{found[method]['validation']} on V, {found[method]['test']} on the test set; "
            f"{100 * result['level']:.1f} % on V, which all reach, after {result['epochs_to_level'][method]} epochs",
            scale, command, f"{HPO_PAPER}: {said[method]}; figure 5" if method in said else "not in the HPO report",
            gap="LeNet-5's accuracies are far below 67 %: so few images, for so few epochs." if cut else None,
        )  # fmt: skip
    p, chance = result["kruskal_p"], result["kruskal_p"] >= 0.05
    order = sorted(set(methods) - {"original"}, key=lambda name: -result["intervals"][name]["test"][0])
    yield Row(
        CLAIMS, "LeNet-5 on CIFAR-10: no method is clearly ahead",
        f"{'no difference beyond chance' if chance else 'a difference'} between their test accuracies: Kruskal-Wallis "
        f"p = {p:.2f}; {', '.join(order)} in this order; LeNet-5 as it was {found['original']['test']}",
        scale, command, f"{HPO_PAPER}: random search, PSO, BOHB in this order, but no clear way of knowing; section 5",
        gap=None if chance else f"LeNet-5: here the methods do differ, {order[0]} is ahead of {order[-1]}; at so few "
        "epochs what learns fast wins, which need not be what is best after forty.",
    )  # fmt: skip


def time_to_accuracy(result: Result) -> Iterator[Row]:
    options, (original, optimised) = result["options"], result["networks"].values()
    saved = 1 - optimised["seconds"] / original["seconds"]
    cpu, fewer = (optimised[name] / original[name] for name in ("cpu_seconds", "parameters"))
    seeds = original["trainings"]
    asked = ("generations", "population", "threshold", "train", "max_iterations")
    yield Row(
        CLAIMS, "LeNet: time to a fixed accuracy, by the genetic algorithm",
        f"{original['seconds']:.1f} → {optimised['seconds']:.1f} s, {changed(saved)}{certain(result.get('p'))} "
        f"({cpu:.2f} × the CPU time, {fewer:.2f} × the parameters; test accuracy {original['test_accuracy']:.3f} → "
        f"{optimised['test_accuracy']:.3f})",
        f"{100 * options['threshold']:.0f} % on {options['train']:,} images, population {options['population']}, "
        f"{options['generations']} generations; {many(seeds, 'seed')} each; one core per training",
        f"SWARM_DATA=data python benchmarks/papers/time_to_accuracy.py --parts search networks --seeds {seeds} "
        + " ".join(f"--{name.replace('_', '-')} {options[name]}" for name in asked),
        f"{GA_PAPER}: 164.5 → 32.4 s, 80.3 % less (the text says 83.5 %); table 3",
        gap=f"LeNet's time falls by {100 * saved:.0f} % instead of 80 %: {options['generations']} generations of "
        f"{options['population']} networks, where the paper's population is 100, have not yet shrunk it as far.",
    )  # fmt: skip


EVOLVED = {  # what the paper says, and why the numbers here are others
    "p3b1": (
        "118.6 → 25.8 s, 78.2 % less; tables 1 and 4",
        "P3B1's, RPV's and translation's data are made up, so their figures are no reproduction of the paper's: that "
        "evolution gains can be compared, and by what, but not how much.",
    ),
    "rpv": ("9.22 → 1.78 %, 80.7 % less; tables 2 and 4", None),
    "resnet": (
        "8 → 7 %, 12.5 % less; figure 9, table 4",
        "ResNet learns digits instead of CIFAR-10: with 2,000 of those photographs its error varies more from one "
        "epoch to the next than the mutations of twenty generations change it.",
    ),
    "capsnet": (
        "16.75 → 14.5 %, 13.4 % less (the text says 15.5 %); figure 11, table 4",
        "The capsules learn digits instead of CIFAR-10, of which a quarter of their filters learns little in 8 epochs. "
        "How soon they begin to learn depends on the weights they start from, of which a population has sixteen.",
    ),
    "seq2seq": (
        "perplexity 28 → 26, 7 % less; figure 13, table 4",
        None,
    ),
}
SCHEDULES = {
    "resnet": "the learning rate decays exponentially, the weight decay grows; figure 9",
    "capsnet": "the learning rate decays, the weight decay grows, k comes to 1; figure 11",
    "seq2seq": "the learning rate decays exponentially, the dropout grows partway; figure 13",
}


def changed(less: float) -> str:
    """A share that was saved, in words."""
    return f"{100 * abs(less):.0f} % {'less' if less >= 0 else 'more'}"


def certain(p: float | None) -> str:
    """A probability in brackets, if there is one."""
    return "" if p is None else f" (one-sided p = {p:.2g})"


def recombination(result: Result) -> Iterator[Row]:
    for name, found in result["parts"].items():
        seeds = len(found["evolved"])
        command = f"SWARM_DATA=data python benchmarks/papers/recombination.py --parts {name} --seeds {seeds}"
        scale = f"{found['scale']}; {many(seeds, 'seed')} each"
        said, why = EVOLVED[name]
        if found["less"] <= 0:
            why = f"{found['title']}: what has evolved is no better here. {why or ''}".rstrip()
        before, after = (
            f"{statistics.mean(each):.1f} ({min(each):.1f} to {max(each):.1f})"
            for each in (found["original"], found["evolved"])
        )
        yield Row(
            CLAIMS, f"{found['title']}: evolved against the known hyper-parameters",
            f"{found['merit']} {before} → {after}, {changed(found['less'])}{certain(found.get('p'))}", scale, command,
            f"{GA_PAPER}: {said}", gap=why,
        )  # fmt: skip
        if "slopes" in found:
            rising = {hyper: sum(slope > 0 for slope in slopes) for hyper, slopes in found["slopes"].items()}
            yield Row(
                CLAIMS, f"{found['title']}: the schedules that PBT finds",
                ", ".join(f"{hyper} rises in {number} of {seeds}" for hyper, number in rising.items()), scale, command,
                f"{GA_PAPER}: {SCHEDULES[name]}",
            )  # fmt: skip
        if "shapes" in found:
            yield _shapes(found)


def _shapes(found: Result) -> Row:
    """What a hyper-parameter that falls, or rises, is worth to a single network."""
    hyper, factor = (found["shapes"][key] for key in ("hyper", "factor"))
    known, seeds = found["original"], len(found["original"])
    merits = {"falls": found["shapes"]["falls"], "rises": found["shapes"]["rises"]}
    means = {shape: statistics.mean(each) for shape, each in merits.items()}
    said = ", ".join(
        f"{means[shape]:.2f} ({min(each):.2f} to {max(each):.2f}) if it {shape}, which is less in "
        f"{sum(one < other for one, other in zip(each, known, strict=True))} of {seeds}"
        for shape, each in merits.items()
    )
    paper, other = ("falls", "rises") if hyper == "learning_rate" else ("rises", "falls")  # by the paper's figures
    name = hyper.replace("_", " ")
    return Row(
        CLAIMS, f"{found['title']}: what a schedule of the {name} is worth",
        f"{found['merit']} {statistics.mean(known):.2f} ({min(known):.2f} to {max(known):.2f}) with the known {name} "
        f"throughout, {said}",
        f"{found['scale'].partition(', population')[0]}; one network per seed, {many(seeds, 'seed')}; from the known "
        f"value to 1/{factor} of it, or to {factor} times it",
        "SWARM_DATA=data python benchmarks/papers/recombination.py --parts shapes", "–",
        gap=None if means[paper] < means[other] else
        f"{found['title']}: in most schedules the {name} does not change as in the paper's figure, where it {paper}. "
        f"Here that would be no gain: one network ends at {means[paper]:.2f} if it {paper}, at {means[other]:.2f} if "
        f"it {other}, and what has evolved at {statistics.mean(found['evolved']):.2f}.",
    )  # fmt: skip


def pbt(result: Result) -> Iterator[Row]:
    errors, slopes = result["errors"], result["slopes"]
    default, found = (statistics.mean(errors[name]) for name in ("default", "PBT"))
    seeds, falling = len(slopes), sum(slope < 0 for slope in slopes)
    scale = f"a CNN of 8 filters on 1,797 digits, population 8, 12 epochs, {seeds} seeds"
    command = "python benchmarks/papers/pbt.py"
    yield Row(
        CLAIMS, "PBT with three parents against fixed hyper-parameters",
        f"test error {100 * default:.1f} → {100 * found:.1f} %, {100 * (1 - found / default):.0f} % less; its schedule "
        f"replayed from the start {100 * statistics.mean(errors['its schedule, replayed']):.1f} %",
        scale, command, f"{GA_PAPER}: ResNet-20 8 → 7 %, capsules 16.75 → 14.5 %; table 4, figures 9 and 11",
    )  # fmt: skip
    gap = None if falling == seeds else f"The schedule's learning rate rises in {seeds - falling} of {seeds} runs: "
    yield Row(
        CLAIMS, "The schedule that PBT finds lowers the learning rate",
        f"it falls in {falling} of {seeds} runs; change of its logarithm per epoch "
        f"{min(slopes):+.3f} to {max(slopes):+.3f}",
        scale, command, f"{GA_PAPER}: exponential decay; figures 9 and 13",
        gap=gap and gap + "12 epochs of eight networks are little to select in.",
    )  # fmt: skip


def dlopt(result: Result) -> Iterator[Row]:
    command = "SWARM_DATA=data python benchmarks/papers/dlopt.py --parts"
    rows = result.get("architectures", [])
    landscape = {row["series"]: row for row in result.get("landscape", [])}
    for series in dict.fromkeys(row["series"] for row in rows):
        mine = {row["method"]: row for row in rows if row["series"] == series}
        random = mine.pop("random search")
        seeds, evaluations = len(random["log_p"]), max(random["evaluations"])
        medians = {name: statistics.median(row["log_p"]) for name, row in mine.items()}
        found = ", ".join(f"{value:.2f} {name} (p = {mine[name]['p']:.2g})" for name, value in medians.items())
        listing = f"{DLOPT_PAPER}: -12.2 by evolution, no comparison; listing 3" if series == "sine" else "–"
        finals = ", ".join(f"the best {top} again with {n}" for top, n in random["finals"])
        looked = landscape[series]
        others = f"{statistics.median(looked['log_p']):.2f} any architecture"
        yield Row(
            CLAIMS, f"{series}: evolution of architectures by random sampling",
            f"median log p {found}; {statistics.median(random['log_p']):.2f} random search; {others}",
            f"{evaluations} evaluations by 30 networks, {finals}; {many(seeds, 'seed')}; scored by {random['fresh']:,} "
            f"fresh networks, {len(looked['log_p'])} of any architecture by {looked['networks']:,}; p of Mann and "
            "Whitney, one-sided",
            f"{command} architectures --series {series} --seeds {seeds}", listing,
            gap=" ".join(_gaps(series, mine, random, looked["draws"]["30"])) or None,
        )  # fmt: skip
    winners = result.get("winners", [])
    for series in dict.fromkeys(row["series"] for row in winners):
        mine = {row["method"]: row for row in winners if row["series"] == series}
        ends = "; ".join(
            f"{name} {ranged(row['mae'], '.4f')}" + (f" (p = {row['p']:.2g})" if row["p"] < 0.5 else "")
            for name, row in mine.items()
        )
        first = next(iter(mine.values()))
        yield Row(
            CLAIMS, f"{series}: what was found without training, trained",
            f"error on V: {ends}", f"{many(len(first['mae']), 'architecture')} each, {first['epochs']} epochs; p "
            "against any architecture, of Mann and Whitney, one-sided",
            f"{command} winners --series {series}", f"{DLOPT_PAPER}: the winner is trained, no comparison",
            gap=_misled(series, mine),
        )  # fmt: skip
    if "training" in result:
        found = result["training"]
        yield Row(
            CLAIMS, "Random sampling foretells the trained error",
            f"correlation of log p with the error: Pearson {found['pearson']:+.2f}, Spearman {found['spearman']:+.2f} "
            f"(p = {found['spearman_p']:.2g})",
            f"{len(found['architectures'])} architectures for the sine, 100 samples, {found['epochs']} epochs",
            f"{command} training", f"{DLOPT_PAPER}: its search rests on that, no number; references 15 and 16",
        )  # fmt: skip
    if rows := result.get("weights"):
        medians = {row["method"]: statistics.median(row["mae"]) for row in rows}
        yield Row(
            CLAIMS, "Weights found without gradients",
            f"median error {', '.join(f'{error:.4f} {name}' for name, error in medians.items())}",
            f"the sine's network, {max(rows[0]['evaluations']):,} networks tried, {len(rows[0]['mae'])} seeds",
            f"{command} weights",
            f"{DLOPT_PAPER} names it as a module, no number",
        )  # fmt: skip
    for row in result.get("throughput", []):
        yield Row(
            SCALE, f"Random networks per second: {'-'.join(map(str, row['network']))}, look-back {row['look_back']}",
            f"{row['together']:,.0f} many at once, {row['one_by_one']:,.0f} one by one, {row['keras_one_by_one']:.1f} "
            "one by one through Keras",
            f"{row['steps']} steps, one core", f"{command} throughput",
        )  # fmt: skip


def _misled(series: str, trained: Mapping[str, Result]) -> str | None:
    """Where what was found without training is worse than any architecture, when trained."""
    *found, other = (statistics.median(row["mae"]) for row in trained.values())
    if min(found) <= other:
        return None
    return (
        f"Log p misleads on the series {series}: what the methods have found by it, random search among them, errs "
        "more when trained than architectures that were drawn at random."
    )


def _gaps(series: str, evolved: Mapping[str, Result], random: Result, again: Sequence[float]) -> Iterator[str]:
    """What the evolution of architectures has not reached, and why."""
    if series == "sine":
        median = max(statistics.median(row["log_p"]) for row in evolved.values())
        yield (
            "DLOPT's -12.2 is the best of noisy scores by 30 networks, which its winner does not keep; scored afresh "
            f"our median is {median:.1f}."
        )
    if min(row["p"] for row in evolved.values()) >= 0.05:
        medians = [statistics.median(row["log_p"]) for row in (*evolved.values(), random)]
        yield (
            f"No method is ahead of random search on the series {series}: their medians lie within "
            f"{max(medians) - min(medians):.1f} of each other. One draw of 30 networks, which the search goes by, "
            f"scores the same architecture {statistics.stdev(again):.1f} higher or lower (standard deviation)."
        )


def nhop(result: Result) -> Iterator[Row]:
    command = "SWARM_DATA=data python benchmarks/papers/nhop.py --parts"
    searches: dict[str, list[Result]] = {}
    for row in result["searches"]:
        searches.setdefault(row["method"], []).append(row)
    staged = searches.pop("Staged")
    falling = sum(row["stages"] == sorted(row["stages"], reverse=True) for row in staged)
    medians = [statistics.median(each) for each in zip(*(row["stages"] for row in staged), strict=True)]
    stages = ", then ".join(f"{number} × {epochs} epochs" for epochs, number in result["stages"])
    yield Row(
        CLAIMS, "The complex cosine in three stages: later ones lower the error",
        f"best error by stage {' → '.join(f'{each:.2e}' for each in medians)} (median); it falls in {falling} of "
        f"{len(staged)} runs", f"{stages}; {many(len(staged), 'seed')}",
        f"{command} searches --seeds {len(staged)}",
        f"{NHOP_PAPER}: 1000 × 1000, then 750 × 5000, then 500 × 10,000 epochs, lower each time; figures 8 to 10",
    )  # fmt: skip
    for method, rows in searches.items():
        kinds = {"validation": "on V", "test": "on the test set"}
        ends = "; ".join(
            f"{said} {statistics.median(row[kind] for row in staged):.2e} by stages, "
            f"{statistics.median(row[kind] for row in rows):.2e} by {method}"
            f" (p = {wilcoxon([row[kind] for row in staged], [row[kind] for row in rows]).pvalue:.2g})"
            for kind, said in kinds.items()
        )
        yield Row(
            CLAIMS, f"The complex cosine in three stages, against {method} of as many epochs", f"median error {ends}",
            f"{stages}, or {rows[0]['trials']} × {result['stages'][-1][0]}; {many(len(staged), 'seed')}; p of Wilcoxon",
            f"{command} searches --seeds {len(staged)}", "–",
        )  # fmt: skip
    for row in result.get("replicas", []):
        if "one slot" not in row["kind"]:
            yield Row(
                SCALE, f"One network on {row['kind']} ({row['network']})",
                f"{row['speed_up']:.2f} × as fast as on one; loss differs by {row['difference']:.1e}",
                f"the shortest of {len(row['seconds'])} repeats; a core per slot", f"{command} replicas",
            )  # fmt: skip


READERS: dict[str, Reader] = {
    "parallel-pso": parallel_pso,
    "archive-share": archive_share,
    "lenet4": lenet,
    "hpo-report": hpo_report,
    "time-to-accuracy": time_to_accuracy,
    "recombination": recombination,
    "pbt": pbt,
    "dlopt": dlopt,
    "nhop": nhop,
}
