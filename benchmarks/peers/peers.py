"""Whole tools side by side: the same trainings on ours and on Optuna, LEAP, DEAP, Propulate and Ray Tune.

    python benchmarks/peers/peers.py [--quick] [--only utilisation stragglers overhead …] [--peers ours optuna …]
                                     [--python leap=PATH propulate=PATH ray=PATH]

Each tool runs as its own documentation says (contenders/ beside this), with one process per slot; trainings sleep, so N
slots are emulated by N processes on any number of cores. What was trained is read from a file that the trainings
themselves write. A tool whose packages cannot be installed beside ours is called by the Python of its own environment;
one that is not there is left out, and the result says why. benchmarks/peers/requirements-*.txt have the versions.

utilisation  8 slots, log-normal lengths (median 0.15 s, sigma 0.6), 10 % stragglers of ten times the length: share of
             the slots' time that is training, over some seconds from when all slots were first in use; and the best
             that was found at equal slot time, counted from the first training on
stragglers   the same with lengths of median 1.5 s, where waiting for others weighs more than what is done between two
             trainings; the best variants of each tool
overhead     trainings of no length on 2 slots: how many a second, and how that changes with their number
repeats      200 evaluations in a space of 36 points: trainings of what was trained before
faults       4 slots, trainings of 1 s: the process of a training is killed; or everything is, and the tool is called
             again as its documentation says
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.peer_runs import DISTRIBUTIONS, GIVE_UP_SECONDS, Run, Task, busy, full_from, repeated, versions
from benchmarks.shared.numbers import ranged
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import machine, positive, save
from benchmarks.shared.tables import console, print_table

Row = dict[str, Any]
CONTENDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "utilisation": {
        "ours": ("AsyncPSO", "AsyncPSO, thread", "SurrogatePSO", "PSO"),
        "optuna": ("TPE, SQLite", "TPE, journal"),
        "leap": ("asynchronous", "synchronous"),
        "deap": ("generations",),
        "propulate": ("asynchronous",),
        "ray": ("reused actors", "fresh actors"),
    },
    "stragglers": {
        "ours": ("SurrogatePSO", "AsyncPSO", "PSO"),
        "optuna": ("TPE, journal",),
        "leap": ("asynchronous", "synchronous"),
        "deap": ("generations",),
        "propulate": ("asynchronous",),
        "ray": ("reused actors",),
    },
    "overhead": {
        "ours": ("Random",),
        "optuna": ("random, SQLite", "random, journal", "TPE, journal"),
        "leap": ("asynchronous", "synchronous"),
        "deap": ("generations",),
        "propulate": ("asynchronous",),
        "ray": ("reused actors",),
    },
    "repeats": {
        "ours": ("AsyncPSO", "PSO", "Random"),
        "optuna": ("TPE, SQLite", "TPE, SQLite, unique"),
        "leap": ("asynchronous", "synchronous"),
        "deap": ("generations",),
        "propulate": ("asynchronous",),
        "ray": ("reused actors",),
    },
    "faults": {
        "ours": ("PSO", "AsyncPSO"),
        "optuna": ("TPE, SQLite, retry",),
        "leap": ("asynchronous",),
        "deap": ("generations",),
        "propulate": ("asynchronous",),
        "ray": ("reused actors",),
    },
}
CUBE = {f"x{i}": (0.0, 1.0) for i in range(4)}
GRID = {"x": (0, 5), "y": (0, 5)}
LENGTHS = {"utilisation": (0.15, 8.0), "stragglers": (1.5, 32.0)}  # median of the trainings, and how long to look
RAMP_SECONDS = 15  # how long to wait for all slots to be in use
HANG_SECONDS = 20  # longer than undisturbed, and a run is said to hang


def utilisation(begin: Callable[..., Run], quick: bool, seed: int, median: float, seconds: float) -> Row:
    slots, seconds = 8, seconds / 4 if quick else seconds
    run = begin(
        space=CUBE, slots=slots, evaluations=4000, population=4 * slots, seed=seed, median=median, sigma=0.6,
        stragglers=0.1,
    )  # fmt: skip
    first = run.begun()
    run.wait_until(lambda done: full_from(done, slots) is not None, RAMP_SECONDS, every=0.02)
    full = full_from(run.trainings(), slots) or time.time()
    time.sleep(max(0.0, full + seconds - time.time()))
    if run.ended() is not None:
        raise RuntimeError(f"it ended too soon: {run.output()}")
    run.kill()
    done = run.trainings()
    losses = [each.loss for each in done if each.end is not None and each.end <= first + seconds]
    return {
        "start_up": first - run.called,
        "ramp": full - first,
        "utilisation": busy(done, full, full + seconds) / (slots * seconds),
        "trained": len(losses),
        "best": min((loss for loss in losses if loss is not None), default=None),
    }


def overhead(begin: Callable[..., Run], quick: bool, seed: int) -> Row:
    number, seconds = (300, 3.0) if quick else (3000, 20.0)
    run = begin(space=CUBE, slots=2, evaluations=number, population=20, seed=seed)
    first = run.begun()
    run.wait(max(0.1, first + seconds - time.time()))
    run.kill()
    ends = sorted(each.end for each in run.trainings() if each.end is not None)
    tenth = max(2, len(ends) // 10)
    return {
        "start_up": first - run.called,
        "evaluations": len(ends),
        "per_second": pace(ends),
        "first_tenth": pace(ends[:tenth]),
        "last_tenth": pace(ends[-tenth:]),
        "curve": [[i + tenth // 2, pace(ends[i : i + tenth])] for i in range(0, len(ends) - tenth + 1, tenth)],
    }


def pace(ends: Sequence[float]) -> float:
    """Evaluations a second."""
    return (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0


def repeats(begin: Callable[..., Run], quick: bool, seed: int) -> Row:
    run = begin(space=GRID, slots=4, evaluations=60 if quick else 200, population=20, seed=seed)
    run.begun()
    run.wait(60)
    run.kill()
    done = run.trainings()
    return {"trained": len(done), "repeated": repeated(done), "points": len({each.params for each in done})}


def faults(begin: Callable[..., Run], quick: bool, seed: int) -> Row:
    what = {
        "space": CUBE, "slots": 4, "evaluations": 16 if quick else 32, "population": 8, "seed": seed,
        "median": 0.5 if quick else 1.0,
    }  # fmt: skip
    calm = begin(**what)
    calm.begun()
    if calm.wait(120) != 0:
        calm.kill()
        raise RuntimeError(f"it does not end undisturbed: {calm.output()}")
    expected, seconds = calm.answer(), time.time() - calm.called
    row: Row = {"trained": len(calm.trainings()), "seconds": seconds}
    for kind in ("worker", "everything"):
        run = begin(**what)
        time.sleep(max(0.0, run.begun() + 2.5 * what["median"] - time.time()))
        end, said = strike(run, kind, seconds + HANG_SECONDS)
        row[kind] = {"end": end, "said": said, "seconds": time.time() - run.called}
        row[kind] |= cost(run, len(calm.trainings()), expected)
    return row


def strike(run: Run, kind: str, patience: float) -> tuple[str, str]:
    """Kill, and where the run does not end well by itself, call the tool again; how it went on, and what it said."""
    end, said = "is called again", ""
    if kind == "worker":
        os.kill(one_running(run), signal.SIGKILL)
        end = {None: "hangs", 0: "goes on"}.get(run.wait(patience), "aborts")
        said = run.output()
    if end != "goes on":
        run.kill()
        run.start(resume=True)
        if run.wait(patience) != 0:
            run.kill()
            end, said = f"{end}, and fails", run.output()
    return end, said


def one_running(run: Run) -> int:
    """Process of a training that is under way."""
    if not run.wait_until(lambda done: any(each.end is None for each in done), GIVE_UP_SECONDS, every=0.02):
        raise RuntimeError("there is no training to kill")
    return next(each.pid for each in reversed(run.trainings()) if each.end is None)


def cost(run: Run, needed: int, expected: Row | None) -> Row:
    """What a fault has cost in trainings, and what became of the answer."""
    done, answer = run.trainings(), run.answer()
    losses = [each.loss for each in done if each.loss is not None]
    return {
        "begun": len(done),
        "extra": len(done) - needed,
        "cut_short": sum(each.end is None for each in done),
        "twice": repeated([each for each in done if each.end is not None]),
        "same": answer is not None and answer == expected,
        "kept_best": answer is not None and answer["loss"] <= min(losses) + 1e-12,
    }


MEASURES: dict[str, Callable[..., Row]] = {
    **{name: partial(utilisation, median=median, seconds=window) for name, (median, window) in LENGTHS.items()},
    "overhead": overhead,
    "repeats": repeats,
    "faults": faults,
}


def measure(name: str, tools: Sequence[str], pythons: dict[str, str], quick: bool, seeds: int) -> Iterator[Row]:
    """All runs of a measure: contenders in turn, so that noise of the machine meets all."""
    for seed in range(seeds):
        for tool in tools:
            variants = CONTENDERS[name][tool]
            for variant in variants[:1] if quick else variants:
                row = {"tool": tool, "variant": variant, "seed": seed}
                with (
                    tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as folder,
                    contextlib.ExitStack() as stack,
                ):
                    call = partial(begin, stack, tool, pythons.get(tool, sys.executable), folder, variant=variant)
                    try:
                        row |= MEASURES[name](call, quick, seed)
                    except RuntimeError as error:
                        row["error"] = str(error)
                console.print(f"{name}: {row}", highlight=False, overflow="ellipsis", no_wrap=True)
                yield row


def begin(stack: contextlib.ExitStack, tool: str, python: str, folder: str, **what: Any) -> Run:
    """Start a run in a folder of its own; it ends with the stack."""
    run = Run(tool, Task(folder=tempfile.mkdtemp(dir=folder), **what), python)
    run.start()
    stack.callback(run.kill)
    return run


def label(row: Row) -> str:
    return f"{'dask-swarm' if row['tool'] == 'ours' else row['tool']}, {row['variant']}"


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The runs by contender, without those that failed."""
    names = dict.fromkeys(label(row) for row in rows)
    return {name: found for name in names if (found := [r for r in rows if label(r) == name and "error" not in r])}


def spread(rows: Sequence[Row], key: str, form: str = ".2f") -> str:
    """Median, lowest and highest."""
    values = [row[key] for row in rows if row[key] is not None]
    return ranged(values, form) if values else "–"


SHARES = {
    "slots training": lambda rows: spread(rows, "utilisation"),
    "trained at equal slot time": lambda rows: spread(rows, "trained", ".0f"),
    "best by then": lambda rows: spread(rows, "best", ".1e"),
    "s to the first training": lambda rows: spread(rows, "start_up", ".1f"),
    "s from there until all slots train": lambda rows: spread(rows, "ramp", ".1f"),
}
COLUMNS: dict[str, dict[str, Callable[[Sequence[Row]], str]]] = {
    "utilisation": SHARES,
    "stragglers": SHARES,
    "overhead": {
        "evaluations": lambda rows: spread(rows, "evaluations", ".0f"),
        "per second": lambda rows: spread(rows, "per_second", ".0f"),
        "first tenth": lambda rows: spread(rows, "first_tenth", ".0f"),
        "last tenth": lambda rows: spread(rows, "last_tenth", ".0f"),
    },
    "repeats": {
        "trainings": lambda rows: spread(rows, "trained", ".0f"),
        "of what was trained before": lambda rows: spread(rows, "repeated", ".0f"),
        "points": lambda rows: spread(rows, "points", ".0f"),
    },
    "faults": {
        f"{kind}: {title}": lambda rows, kind=kind, key=key: str(rows[0][kind][key])
        for kind in ("worker", "everything")
        for title, key in {"it": "end", "extra trainings": "extra", "twice": "twice", "same": "same"}.items()
    },
}


def show(name: str, rows: Sequence[Row]) -> None:
    print_table(
        f"{name}: emulated slots on {machine()['cores']} cores",
        ("contender", *COLUMNS[name]),
        (
            (contender, *(column(found) for column in COLUMNS[name].values()))
            for contender, found in grouped(rows).items()
        ),
    )
    for row in rows:
        if "error" in row:
            console.print(f"{label(row)}, seed {row['seed']}: {row['error']}", highlight=False)


def draw(name: str, rows: Sequence[Row]) -> None:
    """Bars of the utilisation, or the pace along a run."""
    found = grouped(rows)
    figure, (axes,) = panels(8, 4.5)
    if name in LENGTHS:
        names = list(found)[::-1]
        values = [[100 * row["utilisation"] for row in found[each]] for each in names]
        middles = [statistics.median(each) for each in values]
        errors = [[m - min(v) for m, v in zip(middles, values, strict=True)],
                  [max(v) - m for m, v in zip(middles, values, strict=True)]]  # fmt: skip
        colours = ["tab:orange" if each.startswith("dask-swarm") else "tab:blue" for each in names]
        axes.barh(names, middles, xerr=errors, color=colours, error_kw={"lw": 1, "capsize": 3})
        axes.set(xlabel="slots' time that is training, % (median, lowest and highest)", xlim=(0, 100))
        title = f"8 emulated slots, median {LENGTHS[name][0]} s, 10 % stragglers of ten times the length"
        axes.set_title(title, fontsize=10)
    else:
        for contender, runs in found.items():
            curve = max((row["curve"] for row in runs), key=len)
            thick = contender.startswith("dask-swarm")
            axes.plot(*zip(*curve, strict=True), "o-", ms=3, lw=2.5 if thick else 1.2, label=contender)
        axes.set(xlabel="evaluations so far", ylabel="evaluations a second", yscale="log")
        axes.set_title("Trainings of no length, 2 emulated slots: one run each", fontsize=10)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    write(figure, f"peers-{name}", f"peers-{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs, one method per tool, and faults of few")
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--peers", nargs="*", choices=list(DISTRIBUTIONS), default=list(DISTRIBUTIONS))
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH", help="a tool's own interpreter")
    parser.add_argument("--repetitions", type=positive, help="runs of each contender, each with its own seed")
    parser.add_argument("--beside", metavar="TEXT", help="what else the machine does meanwhile, for the summary")
    options = parser.parse_args()
    pythons = dict(each.split("=", 1) for each in options.python)
    there, reasons = versions(pythons)
    for tool, reason in reasons.items():
        console.print(f"{tool} is left out: {reason}")
    tools = [tool for tool in options.peers if tool in there]
    for name in options.only:
        seeds = options.repetitions or (1 if options.quick else 5)
        few = options.quick and name == "faults" and options.peers == list(DISTRIBUTIONS)
        chosen = [tool for tool in tools if not few or tool in ("ours", "optuna")]  # the others take minutes
        rows = list(measure(name, chosen, pythons, options.quick, seeds))
        show(name, rows)
        result = {
            "command": f"python benchmarks/peers/peers.py --only {name}{' --quick' * options.quick}",  # without paths
            "quick": options.quick,
            "tools": {tool: there[tool] for tool in tools},
            "left_out": reasons,
            "rows": rows,
            "beside": options.beside,
        }
        save(f"peers-{name}", result)
        if name in (*LENGTHS, "overhead"):
            draw(name, rows)


if __name__ == "__main__":
    main()
