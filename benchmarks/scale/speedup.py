"""Speed-up from 1 to N slots of one and the same swarm.

    python benchmarks/scale/speedup.py [--quick] [--only sleep|digits|start] [--seeds 5]

sleep   A swarm of 32 whose trainings sleep (log-normal, median 1 s, sigma 0.6), on 16 slots: N GPUs are emulated by
        N worker processes. Beside each run stands its generational bound, the sum over the generations of the best
        possible makespan of the durations that were slept: max(longest, total / slots).
digits  Real trainings of the digits network on 1 and 2 slots.
start   Seconds from submitting a training to its first step, and memory per slot, in a child process and in the
        worker's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import machine, positive, save
from benchmarks.shared.tables import console, table
from swarm import PSO, Choice, Integer, Job, Random, Real, run
from swarm.cluster.connect import embedded, pool_on
from swarm.config import quiet_dask
from swarm.runner import Run
from swarm.workers.node.supervisor import make_slots

SPACE = {f"x{i}": Real(0, 1) for i in range(6)}


def sleeper(median: float, kind: str) -> Any:
    """A training that sleeps; its log-normal duration (sigma 0.6) is a function of its position alone.

    ``known`` durations follow from the configuration's sizes, as those of networks do; ``hashed`` ones have nothing
    to do with them, so that nobody can foresee which training is long.
    """

    def train(params: Any, ctx: Any) -> float:
        import hashlib
        import math
        import statistics
        import time

        values = [params[name] for name in sorted(params)]
        if kind == "known":
            # A sum of six uniform numbers, standardised, is close to normal.
            z = (sum(values) - len(values) / 2) / math.sqrt(len(values) / 12)
        else:
            digest = hashlib.sha256(repr(values).encode()).digest()
            z = statistics.NormalDist().inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48)
        time.sleep(median * math.exp(0.6 * z))
        return -sum((value - 0.3) ** 2 for value in values)

    return train


@contextlib.contextmanager
def stores() -> Iterator[str]:
    """A fresh store that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/swarm.db"


def measured(job: Job, slots: int, store: str) -> tuple[Run, pd.DataFrame]:
    """Run a job; the run and its history."""
    found = run(job, slots=slots, store=store, progress=False)
    return found, found.history


def in_order(durations: list[float], slots: int) -> float:
    """Makespan of trainings that start in this order, each on the slot that is free first."""
    ends = [0.0] * slots
    for seconds in durations:
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)


def bounds(history: pd.DataFrame, slots: int) -> dict[str, float]:
    """What the durations that were slept allow, generation by generation, without any overhead.

    ``best`` is a lower bound of every schedule, ``asked`` a list schedule in the order of asking, by someone who does
    not know the durations.
    """
    trained = history[history["source"] == "trained"]
    found = {"best": 0.0, "asked": 0.0}
    for _, rows in trained.groupby("generation"):
        seconds = list(rows["seconds"])
        found["best"] += max(*seconds, sum(seconds) / slots)
        found["asked"] += in_order(seconds, slots)
    return found


def sleep(quick: bool, seeds: int) -> list[dict[str, Any]]:
    """The sleeping swarm on many slots; each seed's second run follows its first in one store."""
    median, generations = (0.05, 5) if quick else (1.0, 10)
    # One slot would sleep for minutes: its time is the sum of what was slept.
    counts = (1, 4) if quick else (16,)
    columns = "durations|generations|archive|slots|seed|wall s|speed-up|bound s|bound / wall|as asked / wall|busy"
    made = table(f"32 particles, trainings sleep {median} s in the median", columns.split("|"), words=["archive"])
    rows = []
    for kind in ("known", "hashed"):
        for slots, seed in itertools.product(counts, range(seeds)):
            with stores() as store:
                for archive, run_seed in (("empty", 2 * seed + 1), ("durations of another run", 2 * seed + 2)):
                    job = Job(
                        name=f"seed-{run_seed}", problem=sleeper(median, kind), space=SPACE, isolation="thread",
                        seed=run_seed, optimizer=PSO(particles=32, generations=generations),
                    )  # fmt: skip
                    found, history = measured(job, slots, store)
                    row = {"durations": kind, "archive": archive, "slots": slots, "seed": seed}
                    row |= makespan(history, slots)
                    rows.append({**row, "trained": found.counts["trained"]})
                    made.add_row(
                        kind, str(generations + 1), archive, str(slots), str(seed),
                        f"{row['wall']:.1f}", f"{row['speedup']:.2f}", f"{row['bound']:.1f}",
                        f"{row['efficiency']:.3f}", f"{row['as_asked']:.3f}", f"{row['busy']:.2f}",
                    )  # fmt: skip
    console.print(made)
    console.print(
        "Slots are emulated: worker processes whose trainings sleep. Speed-up is against the sum of all trainings.\n"
        "bound: per generation max(longest, total / slots), with all durations known beforehand. as asked: a schedule\n"
        "without any overhead that starts trainings in the order of asking. busy: training seconds / (slots × wall)."
    )
    return rows


def makespan(history: pd.DataFrame, slots: int) -> dict[str, float]:
    """Wall-clock seconds of a run, beside what the durations that were slept allow."""
    wall, total = max(history["end"]) - min(history["start"]), sum(history["seconds"])
    limit = bounds(history, slots)
    return {
        "wall": wall, "total": total, "speedup": total / wall, "busy": total / (slots * wall),
        "bound": limit["best"], "efficiency": limit["best"] / wall, "as_asked": limit["asked"] / wall,
    }  # fmt: skip


def digits(quick: bool) -> list[dict[str, Any]]:
    """Real trainings of the digits network, 1 slot against 2."""
    columns = ("slots", "wall s", "speed-up", "training s, median", "trained", "best fitness")
    made = table(f"real trainings: digits network, {machine()['cores']} cores, one thread per slot", columns)
    rows: list[dict[str, Any]] = []
    for slots in (1, 2):
        job = Job(
            name="digits", problem="digits-cnn", options={"epochs": 5}, test=False, seed=7,
            space={
                "filters": Integer(2, 24), "size": 3, "pool": 2, "units": Integer(4, 32),
                "learning_rate": Real(1e-4, 0.3, log=True),
            },
            optimizer=PSO(particles=4, generations=1) if quick else PSO(particles=8, generations=6),
        )  # fmt: skip
        with stores() as store:
            found, history = measured(job, slots, store)
        # The first training of each slot waits for TensorFlow's import; speed-up is about the rest.
        rest = history[history["generation"] > 0]
        row = {
            "slots": slots, "wall": max(rest["end"]) - min(rest["start"]), "trained": len(rest),
            "median": statistics.median(rest["seconds"]), "best": found.best.fitness if found.best else None,
        }  # fmt: skip
        rows.append({**row, "speedup": rows[0]["wall"] / row["wall"] if rows else 1.0})
        made.add_row(
            str(slots), f"{row['wall']:.1f}", f"{rows[-1]['speedup']:.2f}", f"{row['median']:.2f}",
            str(row["trained"]), f"{row['best']:.4f}",
        )  # fmt: skip
    console.print(made)
    return rows


def first_step(marker: str) -> Any:
    """A Keras training that notes when its first step begins."""

    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        import keras
        import numpy as np

        class Note(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                if batch == 0:
                    Path(marker).write_text(repr(time.time()))

        model = keras.Sequential([keras.layers.Dense(params["units"], activation="relu"), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        x = np.ones((256, 8), dtype="float32")
        model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=[Note()])
        return float(params["units"])

    return train


def start(quick: bool) -> list[dict[str, Any]]:
    """From submit to the first training step, and memory, by isolation."""
    columns = ("isolation", "first s", "next s, median", "slot MiB (USS, all its processes)")
    made = table("from submit to the first training step (small Keras network), and memory of one slot", columns)
    rows = []
    for isolation in ("process", "thread"):
        with tempfile.TemporaryDirectory() as folder:
            seconds, memory = asyncio.run(_starts(isolation, f"{folder}/marker", 4 if quick else 11))
        row = {
            "isolation": isolation, "first": seconds[0], "next": statistics.median(seconds[1:]), "mib": memory,
            "all": seconds,
        }  # fmt: skip
        rows.append(row)
        made.add_row(isolation, f"{row['first']:.2f}", f"{row['next']:.3f}", f"{memory:.0f}")
    console.print(made)
    return rows


async def _starts(isolation: str, marker: str, number: int) -> tuple[list[float], float]:
    job = Job(
        name="start", problem=first_step(marker), space={"units": Choice(8, 16)}, optimizer=Random(trials=1),
        isolation=isolation, archive=False,
    )  # fmt: skip
    seconds = []
    async with embedded(make_slots(slots=1)) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        from swarm.trial import Trial

        for i in range(number):
            submitted = time.time()
            pool.submit(job.evaluations(Trial(id=i, params={"units": 8})))
            ended: list[Any] = []
            while not ended:
                ended = await pool.next()
            assert ended[0].error is None, ended[0].error
            seconds.append(float(Path(marker).read_text()) - submitted)
        worker = next(iter((await client.run(lambda: __import__("os").getpid())).values()))
        tree = [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]
        memory = sum(process.memory_full_info().uss for process in tree) / 2**20
    return seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller swarms and shorter sleeps")
    parser.add_argument("--only", choices=("sleep", "digits", "start"))
    parser.add_argument("--seeds", type=positive, default=5, help="of sleep")
    options = parser.parse_args()
    quiet_dask()
    parts = {"sleep": partial(sleep, seeds=1 if options.quick else options.seeds), "digits": digits, "start": start}
    for name, part in parts.items():
        if options.only in (None, name):
            save(f"speedup-{name}", {"quick": options.quick, "rows": part(options.quick)})


if __name__ == "__main__":
    main()
