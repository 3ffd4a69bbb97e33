"""Ours beside other tools."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchmarks.shared.numbers import many, middle, ranged
from benchmarks.shared.rows import PEERS, Reader, Result, Row

USUAL = 100  # trainings of answers.py; results of longer searches have a file of their own
CMA = "it adapts a covariance matrix to the function, which a plain swarm does not; the guided one is ahead of it."
AHEAD = {"Optuna CMA-ES": CMA, "DEAP CMA-ES": CMA}


def quality(result: Result) -> Iterator[Row]:
    rows = {(row["function"], row["method"]): row for row in result["alone"]}
    functions = list(dict.fromkeys(function for function, _ in rows))
    scale = f"{len(functions)} functions, {result['evaluations']} evaluations, {result['seeds']} seeds; one at a time"
    packages = {"Optuna": "optuna", "PySwarms": "pyswarms", "DEAP": "deap"}
    peers = list(dict.fromkeys(row["method"] for row in result["alone"] if row["peer"]))
    like = {"Optuna TPE": "TPE", "PySwarms": "PSO", "PySwarms w=0.73": "PSO w=0.73", "DEAP eaSimple": "GA"}
    default = ["SurrogatePSO"] if any(method == "SurrogatePSO" for _, method in rows) else []
    pairs = [(peer, mine) for peer in peers for mine in (like.get(peer, "PSO w=0.73"), *default)]
    for peer, mine in pairs:
        wins = {"better": 0, "worse": 0, "equal": 0}
        for function in functions:
            ours, theirs = (middle(rows[function, name]["final"]) for name in (mine, peer))
            wins["equal" if ours == theirs else "better" if ours < theirs else "worse"] += 1
        version = result["packages"].get(packages[peer.split()[0]], "")
        counted = ", ".join(f"{name} on {count}" for name, count in wins.items() if count)
        yield Row(
            PEERS, f"Best found: our {mine} against {peer} ({version})",
            f"median {counted} of {len(functions)} functions", scale, "python benchmarks/peers/quality.py",
            behind=f"{peer}, of {mine}: {AHEAD[peer]}" if wins["worse"] > wins["better"] and peer in AHEAD else None,
        )  # fmt: skip


def answers(result: Result) -> Iterator[Row]:
    peer = result.get("peer", "Optuna TPE")
    for flying, tables in result["in_flight"].items():
        longest = list(tables)[-1]
        for after, rows in tables.items():
            ranks = ", ".join(f"{row['method']} {row['rank']:.1f} ({row['regret']:.3f})" for row in rows)
            default = next(row for row in rows if row["method"] == "SurrogatePSO")
            worse = ", ".join(default["worse_than_random"]) or "none of the tasks"
            yield Row(
                PEERS, f"Mean rank (median regret) of {len(rows)} methods after {after} trainings, {flying} in flight",
                f"{ranks}; SurrogatePSO against {peer} {default['wins']} : {default['losses']} "
                f"(p = {default['p']:.0e}), worse than random search on {worse}",
                f"{len(result['tasks'])} functions and tables, {result['seeds']} seeds; emulated slots",
                f"python benchmarks/peers/answers.py --trainings {longest} --in-flight {flying}",
            )  # fmt: skip


def long_answers(result: Result) -> Iterator[Row]:
    """Of a search that is longer than those of :func:`answers`, what comes after them."""
    tables = {
        flying: {after: rows for after, rows in each.items() if int(after) > USUAL}
        for flying, each in result["in_flight"].items()
    }
    return answers({**result, "in_flight": tables})


def fronts(result: Result) -> Iterator[Row]:
    scale = (
        "error against parameters of networks on the digits, 6 hyper-parameters; real trainings, "
        f"{result['seeds']} seeds, "
        f"{result['in_flight']} in flight on emulated slots; reference: an error of {result['reference']['error']} and "
        f"{result['reference']['parameters']:,} parameters"
    )
    for after, rows in result["after"].items():
        for measure, over in {"volume": "", "log": ", over the logarithm of the parameters"}.items():
            order = sorted(rows, key=lambda row, measure=measure: -statistics.median(row[measure]))
            said = ", ".join(f"{row['method']} {ranged(row[measure], '.3f')}" for row in order)
            wins = "; ".join(
                f"{row['method']} against {peer} {each['wins']} : {each['losses']} (p = {each['p']:.1g})"
                for row in order if row["method"] in ("SurrogatePSO", "GA")
                for peer, each in row.get(f"{measure}_against", {}).items()
            )  # fmt: skip
            what = f"Two targets: hypervolume as a share of the box after {after} trainings{over}"
            yield Row(PEERS, what, f"{said}; {wins}" if wins else said, scale, "python benchmarks/peers/fronts.py")


def questions(result: Result) -> Iterator[Row]:
    for told in dict.fromkeys(row["told"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["told"] == told]
        yield Row(
            PEERS, f"CPU time of a question after {told:,} results, ms: median (mean)",
            ", ".join(f"{row['method']} {row['median']:.3g} ({row['mean']:.3g})" for row in rows),
            "nine hyper-parameters, four of them choices; random results, then one question after the other",
            "python benchmarks/peers/questions.py",
        )  # fmt: skip


def real_trainings(result: Result) -> Iterator[Row]:
    about = {"digits": "the demo's network, 1,797 digits", "lenet5": "LeNet-5, 2,500 images of CIFAR-10, 4 epochs"}
    for task, text in about.items():
        if task not in result:
            continue
        found, words = result[task], []
        order = sorted(found["by"], key=lambda name: -statistics.median(found["by"][name]["trainings"]))
        for name in order:
            row = found["by"][name]
            best, soon, test = (percent_of(row[key]) for key in ("trainings", "seconds", "test"))
            versus = "" if name == "SurrogatePSO" else f" ({row['better']} : {row['worse']}, p = {row['p']:.1g})"
            words.append(f"{name} {best}, {soon}, {test}{versus}")
        seeds = len(found["by"]["SurrogatePSO"]["test"])
        yield Row(
            PEERS, f"Real trainings, {text}: best on V at equal trainings, at equal slot time, and on the test set",
            "; ".join(words) + ". In brackets: seeds in which SurrogatePSO is better and worse",
            f"{found['trainings']} trainings, {found['seconds']:.0f} s of {result['slots']} slots, "
            f"{many(seeds, 'seed')}; medians",
            f"SWARM_DATA=data python benchmarks/peers/real_trainings.py --parts {task} --seeds {seeds}",
        )  # fmt: skip


def percent_of(shares: Sequence[float]) -> str:
    """Their median."""
    return f"{100 * statistics.median(shares):.1f} %"


def overhead(result: Result) -> Iterator[Row]:
    rows = {(row["evaluations"], row["contender"]): row for row in result["rows"]}
    for number in dict.fromkeys(number for number, _ in rows):
        for contender, where in (("ours", "on the same cluster"), ("home", "as run() does it on one machine")):
            if (number, contender) not in rows:
                continue
            ours = rows[number, contender]
            growth = [run["last_tenth"] / run["first_tenth"] for run in ours["runs"]]
            yield Row(
                PEERS, f"Evaluations of no length per second, {where}, against a plain Dask loop that keeps nothing",
                f"{ranged([run['per_second'] for run in ours['runs']], '.0f')} a second, "
                f"{ranged(ours['ratios'], '.2f')} × the plain loop's; the last tenth runs {ranged(growth, '.2f')} × as "
                "fast as the first",
                f"{number:,} evaluations, {result['slots']} slots, {many(len(growth), 'repetition')}; archive and "
                "journal in SQLite included",
                "python benchmarks/peers/overhead.py",
            )  # fmt: skip


# --- whole tools, ours and peers, with the same trainings


TOOLS = {"optuna": "Optuna", "leap": "LEAP", "deap": "DEAP", "propulate": "Propulate", "ray": "Ray Tune"}


def peers_utilisation(result: Result) -> Iterator[Row]:
    return _busy(result, "utilisation", "0.15 s")


def peers_stragglers(result: Result) -> Iterator[Row]:
    return _busy(result, "stragglers", "1.5 s")


def _busy(result: Result, measure: str, median: str) -> Iterator[Row]:
    command = f"python benchmarks/peers/peers.py --only {measure}"
    scale = (
        f"8 sleeping slots, lengths of median {median} with 10 % stragglers, {many(seeds(result), 'seed')}; all that a "
        f"tool does between trainings shares {result['machine']['cores']} cores{circumstances(result)}"
    )
    said, ahead = ranked(result, lambda row: 100 * row["utilisation"], ".1f")
    yield Row(
        PEERS, f"Slots' time that is training, under stragglers, trainings of {median}, %", said, scale, command,
        behind=behind(ahead, f"at trainings of {median}, ours breeds in one place, which hears of a training's end and "
                      "then sends the next; a slot waits for both. A process that breeds for itself, or a "
                      "queue on the worker, does not."),
    )  # fmt: skip
    said, ahead = ranked(result, lambda row: math.inf if row["best"] is None else row["best"], ".1e", high=False)
    what = f"Best found at equal slot time, under stragglers, trainings of {median} (squared distance to the optimum)"
    why = f"at trainings of {median}, such a method needs fewer evaluations on this function of four parameters."
    yield Row(PEERS, what, said, scale, command, behind=behind(ahead, why))


def peers_overhead(result: Result) -> Iterator[Row]:
    command = "python benchmarks/peers/peers.py --only overhead"
    scale = (
        f"2 slots, up to {max(row['evaluations'] for row in result['rows']):,} trainings of no length, or 20 s; "
        f"{many(seeds(result), 'run')}"
    )
    said, ahead = ranked(result, lambda row: row["last_tenth"] / row["first_tenth"], ".2f")
    yield Row(
        PEERS, "Growth of the overhead: pace of the last tenth of the evaluations over that of the first", said,
        scale + circumstances(result), command, behind=behind(ahead, "the pace falls less, or rises, along the run."),
    )  # fmt: skip
    said, ahead = ranked(result, lambda row: row["per_second"], ",.0f")
    yield Row(
        PEERS, "Evaluations of no length per second, whole tools", said, scale + circumstances(result), command,
        behind=behind(ahead, "ours looks into its archive and journals every question and answer; these do so once per "
                      "generation or not at all, and no scheduler is between them and their processes."),
    )  # fmt: skip


def peers_repeats(result: Result) -> Iterator[Row]:
    said, ahead = ranked(result, lambda row: row["repeated"], ".0f", high=False)
    yield Row(
        PEERS, "Trainings of what was trained before", said,
        f"200 evaluations in a space of 36 points, 4 slots, {many(seeds(result), 'seed')}{circumstances(result)}",
        "python benchmarks/peers/peers.py --only repeats", behind=behind(ahead, "less is trained again."),
    )  # fmt: skip


def peers_faults(result: Result) -> Iterator[Row]:
    for kind, what in {
        "worker": "The process of a training is killed",
        "everything": "Everything is killed, and called again",
    }.items():
        said, ahead = ranked(result, lambda row, kind=kind: row[kind]["twice"], ".0f", high=False)
        ends = "; ".join(f"{name} {_end([row[kind] for row in rows])}" for name, rows in contenders(result).items())
        scale = f"32 trainings of 1 s, 4 sleeping slots, {many(seeds(result), 'seed')}{circumstances(result)}"
        yield Row(
            PEERS, f"{what}: finished trainings that were done again", f"{said}. {ends}", scale,
            "python benchmarks/peers/peers.py --only faults",
            behind=behind(ahead, "less is trained again."),
        )  # fmt: skip


def _end(strikes: Sequence[Result]) -> str:
    """How the runs of one contender went on, and in how many the answer was that of an undisturbed run."""
    how = Counter(strike["end"] for strike in strikes)
    ends = next(iter(how)) if len(how) == 1 else ", ".join(f"{end} in {number}" for end, number in how.items())
    same = sum(strike["same"] for strike in strikes)
    return f"{ends}, the answer of an undisturbed run in {same} of {len(strikes)}"


def seeds(result: Result) -> int:
    """How many runs of each contender there were."""
    return max(int(row["seed"]) for row in result["rows"]) + 1


def contenders(result: Result) -> dict[str, list[Result]]:
    """Runs of each method of each tool, without those that failed."""
    found: dict[str, list[Result]] = {}
    for row in result["rows"]:
        tool = row["tool"]
        if "error" not in row:
            name = f"{TOOLS[tool]} {result['tools'][tool]}" if tool in TOOLS else "ours"
            found.setdefault(f"{name} ({row['variant']})", []).append(row)
    return found


def ranked(result: Result, figure: Callable[[Result], float], form: str, *, high: bool = True) -> tuple[str, list[str]]:
    """The contenders by the median of a figure, the best first, and those whose median is ahead of all of ours.

    Of the latter it is said where the median is within those of our runs.
    """
    values = {name: list(map(figure, rows)) for name, rows in contenders(result).items()}
    middles = {name: statistics.median(found) for name, found in values.items()}
    order = sorted(middles, key=lambda name: (-middles[name] if high else middles[name], not name.startswith("ours")))
    ahead = list(itertools.takewhile(lambda name: not name.startswith("ours"), order))
    if ahead and len(ahead) < len(order):
        mine = values[order[len(ahead)]]
        ahead = [
            f"{name.removesuffix(')')}; within the spread of ours)" if min(mine) <= middles[name] <= max(mine) else name
            for name in ahead
        ]
    return "; ".join(f"{ranged(values[name], form)} {name}" for name in order), ahead


def behind(ahead: Sequence[str], why: str) -> str | None:
    return f"{', '.join(ahead)}: {why}" if ahead else None


def circumstances(result: Result) -> str:
    """Which tools are not in a result, and what else the machine did."""
    left = "".join(f"; left out: {TOOLS[tool]}, {reason}" for tool, reason in result["left_out"].items())
    return left + (f"; beside it: {result['beside']}" if result.get("beside") else "")


READERS: dict[str, Reader] = {
    "quality": quality,
    "answers": answers,
    "answers-400": long_answers,
    "answers-gp": answers,
    "fronts": fronts,
    "questions": questions,
    "real-trainings": real_trainings,
    "overhead": overhead,
    "peers-utilisation": peers_utilisation,
    "peers-stragglers": peers_stragglers,
    "peers-overhead": peers_overhead,
    "peers-repeats": peers_repeats,
    "peers-faults": peers_faults,
}
