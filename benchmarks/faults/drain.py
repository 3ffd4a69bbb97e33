"""Tell workers to end in turn, and see how many seconds of training that costs, against workers that are killed.

Machines of one slot each, all real processes on this machine; trainings of sleeping steps save now and then, and ask at
each step whether their worker ends. At random moments amid a training the next machine is told to end with SIGTERM,
and another one takes its place; then the same once more with SIGKILL, which is what the end of a job's time, or a spot
machine that is taken away, came to before. What is lost is the seconds of steps that were done again.

    python benchmarks/faults/drain.py                 # trainings of 60 s with a save every 5 s, 20 workers; ten minutes
    python benchmarks/faults/drain.py --seconds 12    # the same at a fifth of its length, saves too
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console
from swarm import Integer, Job, Random

MACHINES = 4
STEPS, SAVE_STEPS = 600, 50  # of 60 s: a save every 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=60, help="of a training; a twelfth of it lies between its saves"
    )
    parser.add_argument("--workers", type=positive, default=20, help="how many are told to end")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="trainings of 6 s, 4 workers")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.workers = 6, min(options.workers, 4)
    found = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        with tempfile.TemporaryDirectory(prefix="drain-") as folder:
            found[number.name.lower()] = run = ended_in_turn(Path(folder), number, options)
        console.print(f"{number.name}: {run}", highlight=False)
    ratio = found["sigterm"]["lost_seconds"] / found["sigkill"]["lost_seconds"]
    console.print(f"lost with SIGTERM, of what is lost with SIGKILL: {ratio:.1%}")
    result = {"training_seconds": options.seconds, "save_seconds": options.seconds * SAVE_STEPS / STEPS}
    save("drain", {**result, **found, "ratio": ratio})


def ended_in_turn(folder: Path, number: signal.Signals, options: argparse.Namespace) -> dict[str, Any]:
    """One search while its machines end in this way."""
    rng = random.Random(options.seed)
    job = Job(
        name="drain",
        space={"x": Integer(0, 4095)},
        optimizer=Random(trials=4000),  # until all are told
        problem=training(folder, options.seconds / STEPS),
        seed=options.seed,
    )
    with Service(folder) as service:
        service.scheduler()
        service.master()
        for machine in range(MACHINES):
            service.workers(1, f"workers-{machine}")
        wait_until(lambda: service.client.hello()["master"])
        began = time.monotonic()
        handle = service.client.submit(job)
        for turn in range(options.workers):
            name = f"workers-{turn % MACHINES}"
            here = folder / f"here-{service.processes[name].pid}"
            wait_until(here.exists, 60 + 2 * options.seconds)
            time.sleep(rng.uniform(0.2, 1.2) * options.seconds * SAVE_STEPS / STEPS)  # the moment is what is measured
            service.kill(name, number)
            if number is not signal.SIGKILL:
                service.processes.pop(name).wait(60)
            service.workers(1, name)
        told = time.monotonic() - began
        handle.stop()
        state = handle.wait(timeout=60 + 4 * options.seconds)
        table, again = handle.history, Counter(event.kind for event in handle.events())["again"]
    steps = sum(Counter(path.read_text().splitlines()).total() for path in folder.glob("steps-*"))
    return {
        "told": options.workers,
        "interrupted": again,
        "trained": state.counts["trained"],
        "failed": state.counts["failed"],
        "same_answer": bool((table["fitness"] == table["x"].map(undisturbed)).all()),
        "lost_seconds": (steps - state.counts["trained"] * STEPS) * options.seconds / STEPS,
        "seconds_of_telling": told,
    }


def training(folder: Path, pause: float) -> Any:
    """A training of steps, which saves every ``SAVE_STEPS``, and when its worker ends."""

    def train(params: Any, ctx: Any) -> float:
        import contextlib

        import numpy as np
        import psutil

        from swarm import Ending

        saved = ctx.restore()
        total, first = (float(saved.arrays["total"]), saved.meta["step"]) if saved else (0.0, 0)
        with contextlib.ExitStack() as stack:
            for parent in psutil.Process().parents():  # one of them is the machine's
                Path(folder, f"here-{parent.pid}").touch()
                stack.callback(Path(folder, f"here-{parent.pid}").unlink, missing_ok=True)
            log = stack.enter_context(Path(folder, f"steps-{params['x']}").open("a"))
            for step in range(first, STEPS):
                print(step, file=log, flush=True)  # at its beginning: a step that is cut off is lost
                time.sleep(pause)
                total += params["x"] / (step + 1)
                ends = ctx.ending is not None
                if ends or (step + 1) % SAVE_STEPS == 0:
                    ctx.save({"total": np.array(total)}, step=step + 1)
                if ends:
                    raise Ending
        return total

    train.resumable = True  # type: ignore[attr-defined]
    return train


def undisturbed(x: int) -> float:
    """What the training of this configuration returns."""
    total = 0.0
    for step in range(STEPS):
        total += x / (step + 1)
    return total


if __name__ == "__main__":
    main()
