"""What a slice of training costs beside its epoch: CPU seconds in a process of its own, and in one that has waited.

    SWARM_DATA=data python benchmarks/cost/slices.py [--quick] [--slices 8]

Slices of one epoch follow each other as in population-based training: each goes on from the checkpoint of the one
before with another learning rate and weight decay. ``restore`` and ``save`` are the checkpoint's; ``build, trace`` is
all that is left beside them and the epoch. An epoch and its validation are timed in a slice of three, as its last two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import machine, save
from benchmarks.shared.tables import print_table
from swarm.trial import Evaluation, Result
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import child, process
from swarm.workers.keras import KerasProblem
from swarm.workers.models import digits_cnn, resnet20

IMAGES = 2000  # of CIFAR-10
PARTS = ("restore", "build_and_trace", "epoch", "save")


class Clocked:
    """A problem that returns the CPU seconds of its parts beside its scores.

    Args:
        problem: The network.
    """

    resumable = True

    def __init__(self, problem: KerasProblem) -> None:
        self.problem = problem
        self.preload = problem.preload
        self.ended: tuple[int, float] = (0, 0.0)  # process, and its CPU clock when the slice before ended

    def prepare(self) -> None:
        self.problem.prepare()

    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        pid, before = self.ended
        begin = before if pid == os.getpid() else 0.0  # a fork's clock starts at 0
        clocked = ClockedContext(ctx)
        scores = self.problem(params, clocked)  # type: ignore[arg-type]
        self.ended = os.getpid(), time.process_time()
        return {**scores, **clocked.seconds, "slice": self.ended[1] - begin, "pid": os.getpid()}


class ClockedContext:
    """A context that keeps the CPU seconds of restoring and saving, and between its last two reports."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.seconds = {"restore": 0.0, "save": 0.0}
        self.reported: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ctx, name)

    def restore(self) -> Any:
        with self.clock("restore"):
            return self.ctx.restore()

    def save(self, *args: Any, **meta: Any) -> None:
        with self.clock("save"):
            self.ctx.save(*args, **meta)

    def report(self, **metrics: float) -> None:
        now = time.process_time()
        if self.reported is not None:
            self.seconds["epoch"] = now - self.reported
        self.reported = now
        self.ctx.report(**metrics)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[name] += time.process_time() - begin


def train(problem: bytes, url: str, params: Mapping[str, float], before: Result | None, epochs: int = 1) -> Result:
    """Goes on with a training for some epochs."""
    parent, trained = (None, 0) if before is None else (before.key, int(before.metrics["epochs"]))
    evaluation = Evaluation.of("slices", params, budget=trained + epochs, parent=parent, slice=True)
    result = evaluate(problem, evaluation, checkpoints=url)
    assert result.error is None, result.error
    return result


def measure(network: KerasProblem, waits: bool, slices: int) -> dict[str, Any]:
    """Medians of the CPU seconds of the parts of a slice, where the process of the one before waits, or does not."""
    child.IDLE_SECONDS = 60.0 if waits else 0.0
    problem, defaults = cloudpickle.dumps(Clocked(network)), {n: d["default"] for n, d in network.space.items()}
    rng, found = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as url:
        result = train(problem, url, {**defaults, "weight_decay": 0.01}, None, epochs=3)
        epoch = result.metrics["epoch"]
        for _ in range(slices):
            rates = {"learning_rate": rng.uniform(1e-3, 3e-3), "weight_decay": rng.uniform(1e-3, 1e-2)}
            result = train(problem, url, {**defaults, **rates}, result)
            found.append(result.metrics)
    process.close()
    middle = {name: statistics.median(each[name] for each in found) for name in ("restore", "save", "slice")}
    rest = middle["slice"] - middle["restore"] - middle["save"] - epoch
    return {
        **middle,
        "epoch": epoch,
        "build_and_trace": max(0.0, rest),
        "overhead": max(0.0, middle["slice"] / epoch - 1),
        "processes": len({each["pid"] for each in found}),
    }


@contextmanager
def pictures() -> Iterator[str]:
    """CIFAR-10, or noise of its shape where that is not at hand: it takes the same time. Says which."""
    folder = Path(os.environ.get("SWARM_DATA", "."))
    if any((folder / name).is_file() for name in ("cifar10-12k.npz", "cifar10.npz")):
        yield "CIFAR-10"
        return
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        arrays = {"x_train": rng.integers(256, size=(IMAGES + 100, 32, 32, 3), dtype=np.uint8)}
        arrays |= {"y_train": np.arange(IMAGES + 100) % 10, "x_test": arrays["x_train"][:100], "y_test": np.zeros(100)}
        np.savez(Path(made, "cifar10.npz"), **arrays)
        os.environ["SWARM_DATA"] = made
        yield "noise like CIFAR-10"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two slices of each kind, of the digits alone")
    parser.add_argument("--slices", type=int, default=8)
    options = parser.parse_args()
    slices = 2 if options.quick else options.slices
    rows: list[dict[str, Any]] = []
    with pictures() as images:
        networks = {"CNN, 1,500 digits": digits_cnn.problem()}
        if not options.quick:
            networks[f"ResNet-20, {IMAGES:,} images of {images}"] = resnet20.problem(train=IMAGES)
        for name, network in networks.items():
            for waits in (False, True):
                rows.append({"network": name, "process": "has waited" if waits else "new"})
                rows[-1] |= measure(network, waits, slices)
    print_table(
        f"CPU seconds of a slice of one epoch, {slices} slices each, {machine()['cores']} cores",
        ("network", "process", "restore", "build, trace", "epoch", "save", "slice", "overhead"),
        (
            (row["network"], row["process"], *(f"{row[part]:.2f}" for part in (*PARTS, "slice")),
             f"{100 * row['overhead']:.0f} %")
            for row in rows
        ),
        words=["process"],
    )  # fmt: skip
    save("slices", {"slices": slices, "rows": rows})


if __name__ == "__main__":
    main()
