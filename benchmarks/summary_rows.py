"""The rows of benchmarks/README.md: what each benchmark's JSON says, beside what the papers say.

To add a benchmark, write a function that yields rows from its JSON and list it in READERS.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]

CLAIMS = "Does it do what the papers claim?"
PEERS = "How does it compare with peers?"
SCALE = "How does it scale?"
COST = "What do faults and the service cost?"
QUESTIONS = {
    CLAIMS: "Most papers trained on GPUs and on whole data sets; here two cores trained small versions for minutes. "
    "What is compared is therefore the direction and size of an effect, not an accuracy.",
    PEERS: "All search the same functions, whose optimum each seed puts elsewhere, at equal numbers of evaluations.",
    SCALE: "Slots are emulated by processes that sleep, or simulated on a virtual clock, where a row says so.",
    COST: "Schedulers, masters and workers are real processes on one machine, and the kills are real; trainings sleep.",
}
PSO_PAPER, GA_PAPER, DLOPT_PAPER, NHOP_PAPER = "Parallel PSO", "Recombination", "DLOPT", "NHOP"
PSO_COMMAND = "SWARM_DATA=data python benchmarks/parallel_pso.py"
AHEAD = {
    "Optuna TPE": "ours is BOHB's, which models whole configurations, and proposes a third of them at random.",
    "Optuna CMA-ES": "it adapts a covariance matrix to the function; there is no such method among ours.",
    "DEAP CMA-ES": "it adapts a covariance matrix to the function; there is no such method among ours.",
}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        question: The table.
        what: What was measured.
        measured: What came out.
        scale: How much of it, and what was emulated.
        paper: What a paper says of it, and where.
        command: How to measure it again.
        gap: Where the paper's number was not met: why, as a sentence.
        behind: Where a peer is ahead: what differs, as a sentence.
    """

    question: str
    what: str
    measured: str
    scale: str
    command: str
    paper: str = "–"
    gap: str | None = None
    behind: str | None = None


Reader = Callable[[Result], Iterator[Row]]


# --- the papers' claims


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
        gap=f"{name}: the archive's share is not the paper's. It depends on how soon the swarm settles, so on the "
        f"accuracies, and on the number of generations, here {generations} of 100." if missed else None,
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


def lenet(result: Result) -> Iterator[Row]:
    original, found = result["networks"]["original"], result["networks"]["found"]
    counts = result["counts"]
    yield Row(
        CLAIMS, "LeNet-4: the swarm betters the network that an expert tuned",
        f"test accuracy {percent(original['accuracy'])} → {percent(found['accuracy'])} "
        f"(lowest of the found {percent([min(found['accuracy'])])}), "
        f"with {found['parameters'] / original['parameters']:.2f} × the parameters and "
        f"{found['seconds'] / original['seconds']:.1f} × the training time",
        f"10,000 of 60,000 images, 1 epoch; {counts['trained']} trainings; {many(len(found['accuracy']), 'seed')} each",
        "SWARM_DATA=data python benchmarks/lenet4.py",
        f"{PSO_PAPER}: 98.9 % → 99.36 %; section 4.3, table 2",
        gap="LeNet-4's accuracies are those after one epoch on a sixth of the images, so they are far from 99.36 %; "
        "what is reproduced is that the found network is better.",
    )  # fmt: skip


def time_to_accuracy(result: Result) -> Iterator[Row]:
    options, (original, optimised) = result["options"], result["networks"].values()
    saved = 1 - optimised["seconds"] / original["seconds"]
    yield Row(
        CLAIMS, "LeNet: time to a fixed accuracy, by the genetic algorithm",
        f"{original['seconds']:.1f} → {optimised['seconds']:.1f} s, {100 * saved:.0f} % less "
        f"({cpu:.2f} × the CPU time, {fewer:.2f} × the parameters; test accuracy {original['test_accuracy']:.3f} → "
        f"{optimised['test_accuracy']:.3f})",
        f"{100 * options['threshold']:.0f} % on {options['train']:,} images, population {options['population']}, "
        f"{options['generations']} generations, {options['seeds']} seeds; one core per training",
        "SWARM_DATA=data python benchmarks/time_to_accuracy.py "
        + " ".join(f"--{name} {options[name]}" for name in ("generations", "population", "threshold", "train")),
        f"{GA_PAPER}: 164.5 → 32.4 s, 80.3 % less (the text says 83.5 %); table 3",
        gap=f"LeNet's time falls by {100 * saved:.0f} % instead of 80 %: {options['generations']} generations of "
        f"{options['population']} networks, where the paper's population is 100, have not yet shrunk it as far.",
    )  # fmt: skip


def pbt(result: Result) -> Iterator[Row]:
    errors, slopes = result["errors"], result["slopes"]
    default, found = (statistics.mean(errors[name]) for name in ("default", "PBT"))
    seeds, falling = len(slopes), sum(slope < 0 for slope in slopes)
    scale = f"a CNN of 8 filters on 1,797 digits, population 8, 12 epochs, {seeds} seeds"
    command = "python benchmarks/pbt.py"
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
    cpu, fewer = (optimised[name] / original[name] for name in ("cpu_seconds", "parameters"))


def dlopt(result: Result) -> Iterator[Row]:
    command = "SWARM_DATA=data python benchmarks/dlopt.py"
    rows = result.get("architectures", [])
    for series in dict.fromkeys(row["series"] for row in rows):
        mine = {row["method"]: row for row in rows if row["series"] == series}
        medians = {name: statistics.median(row["log_p"]) for name, row in mine.items()}
        plain, seeds = medians.pop("random search"), len(mine["random search"]["log_p"])
        listing = f"{DLOPT_PAPER}: -12.2 by evolution, no comparison; listing 3" if series == "sine" else "–"
        yield Row(
            CLAIMS, f"{series}: evolution of architectures by random sampling",
            f"median log p {', '.join(f'{value:.1f} {name}' for name, value in medians.items())}; {plain:.1f} random "
            "search",
            f"{', '.join(map(str, mine['random search']['evaluations']))} evaluations, {seeds} seeds; scored by 400 "
            "fresh networks", command, listing,
            gap=f"DLOPT's -12.2 is the best of noisy scores by 30 networks, which its winner does not keep; scored "
            f"afresh our median is {max(medians.values()):.1f}." if series == "sine" else None,
        )  # fmt: skip
    if "training" in result:
        found = result["training"]
        yield Row(
            CLAIMS, "Random sampling foretells the trained error",
            f"correlation of log p with the error: Pearson {found['pearson']:+.2f}, Spearman {found['spearman']:+.2f} "
            f"(p = {found['spearman_p']:.2g})",
            f"{len(found['architectures'])} architectures for the sine, 100 samples, {found['epochs']} epochs",
            command, f"{DLOPT_PAPER}: its search rests on that, no number; references 15 and 16",
        )  # fmt: skip
    if rows := result.get("weights"):
        medians = {row["method"]: statistics.median(row["mae"]) for row in rows}
        yield Row(
            CLAIMS, "Weights found without gradients",
            f"median error {', '.join(f'{error:.4f} {name}' for name, error in medians.items())}",
            f"the sine's network, {max(rows[0]['evaluations']):,} networks tried, {len(rows[0]['mae'])} seeds", command,
            f"{DLOPT_PAPER} names it as a module, no number",
        )  # fmt: skip
    for row in result.get("throughput", []):
        yield Row(
            SCALE, f"Random networks per second: {'-'.join(map(str, row['network']))}, look-back {row['look_back']}",
            f"{row['together']:,.0f} many at once, {row['one_by_one']:,.0f} one by one, {row['keras_one_by_one']:.1f} "
            "one by one through Keras",
            f"{row['steps']} steps, one core", command,
        )  # fmt: skip


def nhop(result: Result) -> Iterator[Row]:
    command = "SWARM_DATA=data python benchmarks/nhop.py"
    searches: dict[str, list[Result]] = {
        method: [row for row in result["searches"] if row["method"] == method] for method in ("Staged", "Random")
    }
    staged, random = searches["Staged"], searches["Random"]
    falling = sum(row["stages"] == sorted(row["stages"], reverse=True) for row in staged)
    medians = [statistics.median(each) for each in zip(*(row["stages"] for row in staged), strict=True)]
    wins = {
        kind: sum(a[kind] < b[kind] for a, b in zip(staged, random, strict=True)) for kind in ("validation", "test")
    }
    stages = ", then ".join(f"{number} × {epochs} epochs" for epochs, number in result["stages"])
    yield Row(
        CLAIMS, "The complex cosine in three stages: later ones lower the error",
        f"best error by stage {' → '.join(f'{each:.2e}' for each in medians)} (median); it falls in {falling} of "
        f"{len(staged)} runs; lower than random search's of as many epochs in {wins['validation']} on V, in "
        f"{wins['test']} on the test set",
        f"{stages}; {many(len(staged), 'seed')}", command,
        f"{NHOP_PAPER}: 1000 × 1000, then 750 × 5000, then 500 × 10,000 epochs, lower each time; figures 8 to 10",
    )  # fmt: skip
    for row in result.get("replicas", []):
        if "one slot" not in row["kind"]:
            yield Row(
                SCALE, f"One network on {row['kind']} ({row['network']})",
                f"{row['speed_up']:.2f} × as fast as on one; loss differs by {row['difference']:.1e}",
                f"the shortest of {len(row['seconds'])} repeats; a core per slot", command,
            )  # fmt: skip


# --- peers


def quality(result: Result) -> Iterator[Row]:
    rows = {(row["function"], row["method"]): row for row in result["alone"]}
    functions = list(dict.fromkeys(function for function, _ in rows))
    scale = f"{len(functions)} functions, {result['evaluations']} evaluations, {result['seeds']} seeds; one at a time"
    packages = {"Optuna": "optuna", "PySwarms": "pyswarms", "DEAP": "deap"}
    peers = list(dict.fromkeys(row["method"] for row in result["alone"] if row["peer"]))
    like = {"Optuna TPE": "TPE", "PySwarms": "PSO", "PySwarms w=0.73": "PSO w=0.73", "DEAP eaSimple": "GA"}
    for peer in peers:
        mine = like.get(peer, "PSO w=0.73")
        wins = {"better": 0, "worse": 0, "equal": 0}
        for function in functions:
            ours, theirs = (middle(rows[function, name]["final"]) for name in (mine, peer))
            wins["equal" if ours == theirs else "better" if ours < theirs else "worse"] += 1
        version = result["packages"].get(packages[peer.split()[0]], "")
        counted = ", ".join(f"{name} on {count}" for name, count in wins.items() if count)
        yield Row(
            PEERS, f"Best found: our {mine} against {peer} ({version})",
            f"median {counted} of {len(functions)} functions", scale, "python benchmarks/quality.py",
            behind=f"{peer}: {AHEAD[peer]}" if wins["worse"] > wins["better"] and peer in AHEAD else None,
        )  # fmt: skip


def overhead(result: Result) -> Iterator[Row]:
    rows = {(row["evaluations"], row["contender"]): row for row in result["rows"]}
    for number in dict.fromkeys(number for number, _ in rows):
        ours = rows[number, "ours"]
        ratios = ours["ratios"]
        yield Row(
            PEERS, "Evaluations of no length per second, against a plain Dask loop that keeps nothing",
            f"{ours['per_second']:.0f}/s, {statistics.median(ratios):.2f} × the plain loop's; the last tenth runs "
            f"{ours['last_tenth'] / ours['first_tenth']:.2f} × as fast as the first",
            f"{number:,} evaluations, {result['slots']} slots, {many(len(ratios), 'repetition')}; archive and journal "
            "in SQLite included",
            "python benchmarks/overhead.py",
        )  # fmt: skip


# --- scale


def speedup_sleep(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        archive = "" if row["archive"] == "empty" else f", archive with {row['archive']}"
        yield Row(
            SCALE,
            f"Time of a generational swarm against its bound; durations {row['durations']}{archive}",
            f"bound / time {100 * row['efficiency']:.0f} %; the schedule in the order of asking, without any overhead, "
            f"/ time {100 * row['as_asked']:.0f} %; speed-up {row['speedup']:.1f}",
            f"{row['slots']} sleeping slots, {row['trained']} trainings, {row['total']:.0f} s in all",
            "python benchmarks/speedup.py --only sleep",
        )


def speedup_start(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"From submitting a training to its first step, isolation: {row['isolation']}",
            f"{row['next']:.2f} s (the first {row['first']:.1f} s); {row['mib']:.0f} MiB per slot",
            f"{len(row['all'])} trainings of a small Keras network" + remark(result),
            "python benchmarks/speedup.py --only start",
        )  # fmt: skip


def async_vs_sync(result: Result) -> Iterator[Row]:
    most = max(row["slots"] for row in result["rows"])
    for stragglers in (False, True):
        pairs = [r for r in result["rows"] if r["slots"] == most and r["stragglers"] is stragglers]
        shortest = min(row["median"] for row in pairs)
        rows = {row["method"]: row for row in pairs if row["median"] == shortest}
        sync, free = rows["PSO"], rows["AsyncPSO"]
        yield Row(
            SCALE, f"Barrier or none, {'10 % stragglers of ten times the length' if stragglers else 'no stragglers'}",
            f"slots busy {100 * sync['utilisation']:.0f} % → {100 * free['utilisation']:.0f} % without the barrier, "
            f"{sync['wall']:.0f} → {free['wall']:.0f} s; then {free['gap_ms']:.0f} ms between two trainings of a slot",
            f"{most} sleeping slots, {free['trained']} trainings, median {shortest} s",
            "python benchmarks/async_vs_sync.py",
            f"{PSO_PAPER}: idle slots wait for the slowest, no number; section 4.3",
        )  # fmt: skip


def scale(result: Result) -> Iterator[Row]:
    rows = result["rows"]
    for row in rows:
        growth = row["last_tenth_ms"] / row["first_tenth_ms"]
        yield Row(
            SCALE, f"{row['method']}: the master's work per evaluation",
            f"{row['ms']:.2f} ms of CPU ({growth:.1f} × as much in the last tenth as in the first), "
            f"{row['peak_mib']:.0f} MiB, {row['store_bytes']:.0f} bytes in the store",
            f"{row['slots']:,} virtual GPUs, {row['evaluations']:,} evaluations" + remark(result),
            "python benchmarks/scale.py",
        )  # fmt: skip


def slices(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"A slice of one epoch ({row['network']}), process: {row['process']}",
            f"{100 * row['overhead']:.0f} % more CPU than the epoch: building {row['build_and_trace']:.2f} s, "
            f"checkpoint {row['restore'] + row['save']:.2f} s, beside {row['epoch']:.2f} s",
            f"median of {result['slices']} slices, one core", "SWARM_DATA=data python benchmarks/slices.py",
        )  # fmt: skip


# --- faults and the service


def chaos(result: Result) -> Iterator[Row]:
    jobs, undisturbed = result["jobs"], result["undisturbed"]
    kills = ", ".join(f"{count} × {kind}" for kind, count in result["kills"].items())
    twice = sum(job["trained_twice"] for job in jobs.values())
    interrupted, trained = (sum(job[name] for job in jobs.values()) for name in ("interrupted", "trained"))
    same = all(jobs[name]["best"] == undisturbed[name]["best"] for name in jobs)
    yield Row(
        COST, f"{sum(result['kills'].values())} faults while two searches run",
        f"{'the same best as' if same else 'ANOTHER best than'} undisturbed; {interrupted} of {trained} trainings cut "
        f"short and begun again, {twice} finished twice, "
        f"{sum(job['failed'] for job in jobs.values())} failed",
        f"{kills}; 8 sleeping slots, {result['wall_seconds']:.0f} s", "python benchmarks/chaos.py",
    )  # fmt: skip


def service(result: Result) -> Iterator[Row]:
    command = "python benchmarks/service.py"
    if crowd := result.get("crowd"):
        yield Row(
            COST, "Many clients at once",
            f"{crowd['finished']} of {crowd['jobs']} jobs done in {crowd['wall_seconds']:.0f} s; a look takes "
            f"{crowd['look_ms']['median']:.0f} ms (95 %: {crowd['look_ms']['p95']:.0f}), a submission "
            f"{crowd['submit_ms']['median']:.0f} ms (95 %: {crowd['submit_ms']['p95']:.0f})",
            "20 clients submit, 50 look once a second; 2 slots, evaluations take no time", command,
        )  # fmt: skip
    if fairness := result.get("fairness"):
        yield Row(
            COST, "Sharing by priority, 3 to 1", f"{fairness['ratio']:.2f} to 1 slot seconds",
            "two jobs whose trainings take 0.5 and 1.5 s, 8 sleeping slots", command,
        )  # fmt: skip
    if takeover := result.get("takeover"):
        yield Row(
            COST, "The master is killed while another stands by",
            f"{takeover['seconds_to_take_over']:.1f} s until that has taken over; {takeover['finished_twice']} of "
            f"{takeover['trained']} trainings done twice",
            f"8 sleeping slots, a lease of {takeover['lease_seconds']} s", command,
        )  # fmt: skip


def dashboard(result: Result) -> Iterator[Row]:
    phases = {True: [], False: []}  # type: dict[bool, list[Result]]
    for phase in result["phases"]:
        phases[phase["page"] is not None].append(phase)
    late = {opened: statistics.median(phase["late_p99_ms"] for phase in rows) for opened, rows in phases.items()}
    command = "python benchmarks/dashboard.py"
    yield Row(
        COST, "An open page of the dashboard",
        f"{result['ratio']:.2f} × the evaluations per second ({min(result['ratios']):.2f} to "
        f"{max(result['ratios']):.2f}); the scheduler's loop is {late[False]:.0f} → {late[True]:.0f} ms late (99 %)",
        f"{len(result['ratios'])} pairs of phases; 2 slots, evaluations take no time; the page is not drawn", command,
    )  # fmt: skip
    if page := result.get("page"):
        first, last = page[0], page[-1]
        yield Row(
            COST, "A page that is left open",
            f"{first['page_mib']:.0f} → {last['page_mib']:.0f} MiB in the browser, {first['scheduler_mib']:.0f} → "
            f"{last['scheduler_mib']:.0f} MiB in the scheduler, {last['errors']:.0f} errors",
            f"{last['told'] - first['told']:,} evaluations in {last['seconds']:.0f} s", command,
        )  # fmt: skip


# --- numbers


def percent(shares: Sequence[float]) -> str:
    """Their mean."""
    return f"{100 * statistics.mean(shares):.2f} %"


def many(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def middle(values: Sequence[float | None]) -> float:
    """The median, where None is the worst."""
    return statistics.median(math.inf if value is None else value for value in values)


def remark(result: Result) -> str:
    """What limits a result."""
    return "; a quick run" if result.get("quick") else ""


READERS: dict[str, Reader] = {
    "parallel-pso": parallel_pso,
    "lenet4": lenet,
    "time-to-accuracy": time_to_accuracy,
    "pbt": pbt,
    "dlopt": dlopt,
    "nhop": nhop,
    "quality": quality,
    "overhead": overhead,
    "speedup-sleep": speedup_sleep,
    "speedup-start": speedup_start,
    "async-vs-sync": async_vs_sync,
    "scale": scale,
    "slices": slices,
    "chaos": chaos,
    "service": service,
    "dashboard": dashboard,
}
