"""How much CPU time a method takes for a question, by how much it has been told.

    python benchmarks/peers/questions.py [--quick] [--told 100 400 1000 4000] [--questions 24] [--gp]

Each method takes in that many results of random configurations of a space of nine hyper-parameters (four choices, five
numbers), as from a journal, and then asks for trials and is told of them, one at a time. CPU time is that of the
process, all threads, per question. Peers that are not installed are left out; Optuna's GPSampler only comes with --gp.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.answers import Optuna, Ours, Searcher, peers
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import print_table
from swarm.optimizers import PSO, TPE, AsyncPSO, SurrogatePSO
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Params, Trial

SPACE = Space(
    {
        "first": Choice("relu", "tanh"),
        "second": Choice("relu", "tanh"),
        "batch": Integer(3, 8),
        "dropout": Real(0.0, 0.6),
        "schedule": Choice("cosine", "constant"),
        "optimizer": Choice("adam", "sgd", "rmsprop"),
        "rate": Real(1e-4, 1e-1, log=True),
        "units": Integer(16, 512),
        "more_units": Integer(16, 512),
    }
)
MOST = {"Optuna GP": 400}  # results beyond which a question takes minutes
Told = list[tuple[Params, float]]


def loss(params: Params) -> float:
    """A bowl with a ripple."""
    u = SPACE.encode(params) - 0.4
    return float(u @ u + 0.1 * np.sin(20 * u).sum())


def ours(kind: Any, options: dict[str, Any], told: Told) -> Searcher:
    """A method of ours that has taken in results, as from a journal where it lets them be given."""
    optimizer = kind(**options).start(SPACE, seed=1)
    for i, (params, value) in enumerate(told):
        if kind is not SurrogatePSO and (kind is not TPE or i < 10):  # the others ask on replay, too; TPE at first
            trial = optimizer.ask()
            optimizer.tell(trial, loss(trial.params))
        else:
            trial = Trial(id=i, params=params, **_place(kind, options, i))
            optimizer.asked(trial)
            optimizer.tell(trial, value)
    return Ours(optimizer)


def _place(kind: Any, options: dict[str, Any], i: int) -> dict[str, int]:
    particles = options.get("particles", 10)
    return {"generation": i // particles, "member": i % particles} if kind is SurrogatePSO else {"member": i}


def theirs(make: Callable[..., Searcher], told: Told) -> Searcher:
    """A peer that has taken in results."""
    found = make(SPACE, 1, len(told) + 100)
    assert isinstance(found, Optuna)
    found.take_in(told)
    return found


def seconds(searcher: Searcher, questions: int) -> list[float]:
    """CPU time of each question."""
    found = []
    for _ in range(questions):
        began = time.process_time()
        asked = searcher.ask()
        assert asked is not None
        searcher.tell(asked[0], loss(asked[1]))
        found.append(time.process_time() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="after 100 and 400 results, 4 questions")
    parser.add_argument("--told", type=positive, nargs="+", default=[100, 400, 1000, 4000], metavar="N")
    parser.add_argument("--questions", type=positive, default=24)
    parser.add_argument("--gp", action="store_true", help="Optuna's GPSampler, too")
    options = parser.parse_args()
    if options.quick:
        options.told, options.questions = [100, 400], 4
    rng = np.random.default_rng(1)
    random = [SPACE.sample(rng) for _ in range(max(options.told))]
    told = [(params, loss(params)) for params in random]
    most = max(options.told) + options.questions
    mine = {
        "SurrogatePSO": (SurrogatePSO, {"trials": most}),
        "TPE": (TPE, {"trials": most}),
        "PSO": (PSO, {"generations": math.ceil(most / 6)}),
        "AsyncPSO": (AsyncPSO, {"generations": math.ceil(most / 6)}),
    }
    rows = []
    for n in options.told:
        for name, (kind, arguments) in mine.items():
            rows.append(row(name, n, seconds(ours(kind, arguments, told[:n]), options.questions)))
        for name, make in peers(options.gp).items():
            if n <= MOST.get(name, n):
                rows.append(row(name, n, seconds(theirs(make, told[:n]), min(options.questions, 8))))
    print_table(
        f"CPU time of a question, {SPACE.dimensions} hyper-parameters, ms",
        ("method", "results", "median", "mean", "most"),
        ([f"{value:,.3g}" if isinstance(value, float) else value for value in each.values()] for each in rows),
    )
    save("questions", {"quick": options.quick, "rows": rows})


def row(method: str, told: int, found: list[float]) -> dict[str, Any]:
    """Milliseconds, rounded."""
    values = {"median": statistics.median(found), "mean": statistics.mean(found), "most": max(found)}
    return {"method": method, "told": told, **{name: float(f"{1000 * value:.3g}") for name, value in values.items()}}


if __name__ == "__main__":
    main()
