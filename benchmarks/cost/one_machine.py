"""What the slots of one machine share: memory, a data set, imports, and what cheap functions cost.

    python benchmarks/cost/one_machine.py [--quick] [--only memory data start second calls] [--repetitions 3]

Every measurement is a process of its own, in turn with those it is compared with.

memory  Proportional memory (PSS) of a whole search while the digits network trains, by number of slots: the processes
        of the slots share what they have imported and loaded.
data    The same with a data set of 1 GB that every training reads, on 8 slots: how often is it held?
start   Seconds from calling Python to the first result of the digits network, on 1 slot and on 8.
second  A second job, with code of its own, on a service that has run a first one: seconds from its submission to its
        first training step, on 1 slot and on 8.
calls   examples/branin.py, 208 calls of a cheap function: CPU, wall clock, and seconds to the first call; beside
        Optuna's default in a process of its own, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.scale.speedup import first_step
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import ROOT, earlier, positive, save
from benchmarks.shared.tables import console, print_table
from swarm import Choice, Integer, Job, Random, Real, run
from swarm.config import quiet_dask

Figures = dict[str, float]
BRANIN = ROOT / "examples" / "branin.py"
OPTUNA = "from math import cos, pi\nimport optuna\n"
OPTIMIZE = """
def objective(trial):
    return branin({"x": trial.suggest_float("x", -5, 10), "y": trial.suggest_float("y", 0, 15)}, None)
optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1)).optimize(objective, n_trials=208)
"""
DATA_BYTES = 2**30
READ_SECONDS = 20.0  # long enough for all slots to hold a training at a time


class Reading:
    """A training that reads a data set which ``prepare`` has loaded, and then stays."""

    def __init__(self, size: int) -> None:
        self.size = size

    def prepare(self) -> None:
        import numpy as np

        self.data = np.ones(self.size // 8)

    def __call__(self, params: Any, ctx: Any) -> float:
        total = float(self.data.sum())
        ctx.report(total, step=1)
        time.sleep(READ_SECONDS)
        return total


def digits(trials: int) -> Job:
    """The demo's network and a part of its space."""
    space = {"filters": Integer(2, 24), "units": Integer(4, 32), "learning_rate": Real(1e-4, 0.3, log=True)}
    return Job(
        name="digits", problem="digits-cnn", options={"epochs": 5}, test=False, seed=7, archive=False,
        space={**space, "size": 3, "pool": 2}, optimizer=Random(trials=trials),
    )  # fmt: skip


def search(job: Job, slots: int) -> None:
    """What a child process does: run it, and print a line for each trial that has ended."""
    with tempfile.TemporaryDirectory() as folder:
        say = lambda trial: print(json.dumps({"ended": time.time()}), flush=True)  # noqa: E731
        run(job, slots=slots, store=f"{folder}/swarm.db", progress=False, on_trial=say)


CHILDREN: dict[str, Callable[[int], None]] = {
    "digits": lambda slots: search(digits(6 * slots), slots),
    "first": lambda slots: search(digits(slots), slots),
    "data": lambda slots: search(reading(slots, DATA_BYTES), slots),
    "none": lambda slots: search(reading(slots, 8), slots),
}


def reading(slots: int, size: int) -> Job:
    return Job(
        name="reading", problem=Reading(size), space={"x": Real(0, 1)}, optimizer=Random(trials=slots), archive=False
    )


def child(name: str, slots: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", name, str(slots)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def pss(root: int) -> float:
    """MiB of a process and all below it, shared pages counted by their shares."""
    total = 0
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has ended meanwhile
    return total / 2**20


def held(name: str, slots: int) -> float:
    """MiB of a search while all its slots train: the most that was seen."""
    process = child(name, slots)
    most = 0.0
    try:
        while process.poll() is None:
            most = max(most, pss(process.pid))
            time.sleep(0.5)
    except psutil.NoSuchProcess:
        pass
    assert process.wait() == 0, f"{name} on {slots} slots failed"
    return most


def memory(quick: bool) -> Figures:
    found = {str(slots): held("digits", slots) for slots in ((1, 2) if quick else (1, 4, 8))}
    most = max(map(int, found))
    return {**found, "further": (found[str(most)] - found["1"]) / (most - 1)}


def data(quick: bool) -> Figures:
    slots = 2 if quick else 8
    without, one, many = held("none", slots), held("data", 1), held("data", slots)
    size = DATA_BYTES / 2**20
    return {"slots": slots, "without": without, "one": one, "many": many, "times": (many - without) / size}


def first_result(slots: int) -> float:
    began = time.time()
    process = child("first", slots)
    assert process.stdout is not None
    ended = json.loads(process.stdout.readline())["ended"]
    process.communicate()
    return float(ended - began)


def start(quick: bool) -> Figures:
    """Seconds to the first result."""
    return {str(slots): first_result(slots) for slots in ((1, 2) if quick else (1, 8))}


def second(quick: bool) -> Figures:
    """Seconds from the submission of a second job to its first training step."""
    return {str(slots): second_job(slots) for slots in ((1,) if quick else (1, 8))}


def second_job(slots: int) -> float:
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        service.started(slots)
        service.client.submit(digits(2 * slots)).wait(timeout=600)
        marker = Path(folder) / "marker"
        job = Job(
            name="second", problem=first_step(str(marker)), space={"units": Choice(8, 16)}, optimizer=Random(trials=1)
        )
        submitted = time.time()
        service.client.submit(job).wait(timeout=600)
        wait_until(marker.exists)
        return float(marker.read_text()) - submitted


def calls(quick: bool) -> Figures:
    found = {f"branin_{name}": value for name, value in called(BRANIN.read_text()).items()}
    if importlib.util.find_spec("optuna") is None:
        console.print("Optuna is left out: it is not installed")
        return found
    return found | {f"optuna_{name}": value for name, value in called(OPTUNA + function()).items()}


def function() -> str:
    """The function of the example, without the search."""
    source = BRANIN.read_text()
    return source[source.index("def branin") : source.index("if __name__")] + OPTIMIZE


def called(script: str) -> Figures:
    """CPU, wall clock, and seconds to the first call of ``branin`` in a script that is run as it is."""
    head = "def branin(params, ctx):\n"
    noting = "    if not Path('first').exists(): Path('first').write_text(f'{time()}')\n"
    imports = "from pathlib import Path\nfrom time import time\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "script.py").write_text(imports + script.replace(head, head + noting))
        began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "script.py"], cwd=folder, check=True, capture_output=True)
        wall, after = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        first = float(Path(folder, "first").read_text()) - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": used, "wall": wall, "first": first}


PARTS: dict[str, Callable[[bool], Figures]] = {
    "memory": memory, "data": data, "start": start, "second": second, "calls": calls,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once, on one slot and two")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repetitions", type=positive, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet_dask()
    if options.child:
        CHILDREN[options.child[0]](int(options.child[1]))
        return
    result: dict[str, Any] = earlier("one-machine", list(PARTS))
    for part in options.only:
        repetitions = 1 if options.quick or part == "data" else options.repetitions
        result[part] = [PARTS[part](options.quick) for _ in range(repetitions)]
        show(part, result[part])
        save("one-machine", {"quick": options.quick, **result})


def show(part: str, rows: list[Figures]) -> None:
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    lines = [*rows, middle] if len(rows) > 1 else rows
    names = [*map(str, range(1, len(rows) + 1)), "median"]
    print_table(part, ("run", *rows[0]), ([n, *(f"{v:.4g}" for v in r.values())] for n, r in zip(names, lines)))  # noqa: B905


if __name__ == "__main__":
    main()
