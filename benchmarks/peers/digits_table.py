"""Train a grid of small digits networks, so that searches can be compared on real trainings that take no time.

    python benchmarks/peers/digits_table.py [--quick] [--configurations 270] [--epochs 3] [--slots 2] [--store FILE]

Every configuration of a grid over the space of the digits CNN is trained once, on one fold and at one seed, through
dask-swarm itself; the validation loss and accuracy after the first and after the last epoch are written to
benchmarks/results/quality/digits-table.json, which benchmarks/peers/quality.py looks up.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import KEPT, RESULTS, machine, positive, written
from benchmarks.shared.tables import console
from swarm import Grid, Job, run
from swarm.config import quiet_dask
from swarm.space import Choice, Integer, Space
from swarm.store import Event, Store
from swarm.trial import Evaluation

FILE = "quality/digits-table.json"
ORDER = ("learning_rate", "learning_rate", "units", "size", "pool", "filters")  # the learning rate matters most
COLUMNS = ("first_loss", "first_accuracy", "loss", "accuracy")  # of a row, behind the hyper-parameters


def grid_points(space: Space, most: int, order: Sequence[str] = ()) -> dict[str, int]:
    """Points per parameter of the finest grid that has at most ``most`` configurations, grown in turn.

    Args:
        space: What the grid is over; every option of a choice is on it.
        most: Number of configurations that the grid may have.
        order: Whose turn it is to get another point, again and again; left out, the order of the space.
    """
    order = order or space.names
    sizes = {name: _size(space, name) for name in space.names}
    points = dict.fromkeys(sizes, 2)
    grown = True
    while grown:
        grown = False
        for name in order:
            finer = {**points, name: points[name] + 1}
            if finer[name] <= sizes[name] and math.prod(finer.values()) <= most:
                points, grown = finer, True
    return points


def _size(space: Space, name: str) -> float:
    domain = space.domains[name]
    return domain.size if isinstance(domain, Integer | Choice) else math.inf


class DigitsTable:
    """The table as a function of any configuration of the space: that of the nearest one on the grid.

    Args:
        data: What :func:`main` wrote.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.space = Space.parse(data["space"])
        self.epochs = int(data["epochs"])
        self._axes: list[list[Any]] = [data["axes"][name] for name in self.space.names]
        d = len(self._axes)
        self._losses = {tuple(row[:d]): dict(zip(COLUMNS, row[d:], strict=True)) for row in data["rows"]}
        middle = self.space.decode([0.5] * d)
        self._places = [
            [self.space.encode({**middle, name: value})[j] for value in self._axes[j]]
            for j, name in enumerate(self.space.names)
        ]

    @classmethod
    def load(cls) -> DigitsTable:
        """The table that lies beside the results."""
        return cls(json.loads((KEPT / FILE).read_text()))

    def __len__(self) -> int:
        return len(self._losses)

    @property
    def lowest(self) -> float:
        """Lowest validation loss after all epochs: what a search can find at best."""
        return min(row["loss"] for row in self._losses.values() if row["loss"] is not None)

    def loss(self, params: Mapping[str, Any], *, first: bool = False) -> float:
        """Validation loss of the nearest configuration (in the unit cube) after all epochs, or after the ``first``."""
        nearest = [
            values[min(range(len(values)), key=lambda i, u=u, places=places: abs(places[i] - u))]
            for u, values, places in zip(self.space.encode(params), self._axes, self._places, strict=True)
        ]
        loss = self._losses[tuple(nearest)]["first_loss" if first else "loss"]
        return math.inf if loss is None else loss


def training(epochs: int) -> Any:
    """Trains a digits CNN and returns, besides its scores at the end, those after the first epoch."""

    def digits_table(params: Any, ctx: Any) -> dict[str, float]:
        from swarm.workers.context import Context
        from swarm.workers.models.digits_cnn import problem

        curve: list[Any] = []
        evaluation = Evaluation(key="", problem="", params=params, seed=ctx.seed, fold=ctx.fold)
        scores = problem(epochs=epochs)(params, Context.of(evaluation, curve.append))
        return {**scores, "first_loss": curve[0]["val_loss"], "first_accuracy": curve[0]["val_accuracy"]}

    digits_table.preload = ("tensorflow", "keras", "sklearn.model_selection")  # type: ignore[attr-defined]
    return digits_table


def main() -> None:
    from swarm.workers.models.digits_cnn import SPACE

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest grid, 1 epoch")
    parser.add_argument("--configurations", type=int, default=270, help="at most so many")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--slots", type=positive, default=2)
    parser.add_argument("--store", help="keep the journal in this file, and go on from what it holds")
    options = parser.parse_args()
    if options.quick:
        options.configurations, options.epochs = 1, 1
    quiet_dask()
    space = Space.parse({**SPACE, "filters": {"integer": [2, 12]}})
    points = grid_points(space, options.configurations, ORDER)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            name=f"digits-table-{math.prod(points.values())}",
            problem=training(options.epochs),
            space=space,
            optimizer=Grid(points=points),
            seed=1,
        )
        where = options.store or f"{folder}/swarm.db"
        run(job, slots=options.slots, store=where)
        with closing(Store(where)) as store:
            rows = list(table_rows(store.events(job.name), space.names))
    accuracies = [row[-1] for row in rows if row[-1] is not None]
    if len(accuracies) < len(rows):
        raise SystemExit(f"{len(rows) - len(accuracies)} of {len(rows)} trainings failed: no table is written")
    table = {
        "machine": machine(),
        "problem": f"digits CNN, {options.epochs} epochs, fold 0 of 10, one seed per configuration",
        "space": space.to_dict(),
        "points": points,
        "epochs": options.epochs,
        "columns": [*space.names, *COLUMNS],
        "axes": {name: sorted({row[j] for row in rows}) for j, name in enumerate(space.names)},
    }
    file = RESULTS / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in sorted(rows))
    file.write_text(f'{json.dumps(table, indent=1)[:-2]},\n "rows": [\n{body}\n ]\n}}\n')
    console.print(
        f"{len(rows)} configurations in {time.perf_counter() - began:.0f} s on {options.slots} slots; validation "
        f"accuracy {min(accuracies):.3f} to {max(accuracies):.3f}, median {statistics.median(accuracies):.3f}"
    )
    written(file)


def table_rows(events: Iterable[Event], names: Sequence[str]) -> Iterator[list[Any]]:
    """A row per configuration out of a journal: hyper-parameters, then :data:`COLUMNS` (None: not finite)."""
    asked: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.kind == "asked":
            (evaluation,) = event.data["evaluations"]
            asked[evaluation["key"]] = event.data["params"]
            results |= {evaluation["key"]: evaluation["result"]} if evaluation["result"] else {}
        elif event.kind == "result":
            results[event.data["key"]] = event.data
    for key, params in asked.items():
        metrics = results[key]["metrics"]
        scores = {**metrics, "loss": metrics.get("val_loss"), "accuracy": results[key]["fitness"]}
        values = [scores.get(column) for column in COLUMNS]
        yield [params[name] for name in names] + [None if x is None else float(f"{x:.5g}") for x in values]


if __name__ == "__main__":
    main()
