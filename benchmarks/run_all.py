"""The quick form of every benchmark, one after another: whether each works, and roughly what it says.

    SWARM_DATA=data python benchmarks/run_all.py [--keep] [NAME …]

Those on MNIST and CIFAR-10 are left out where the data are not. The table at the end says how long each took; --keep
puts it among the results, for the summary, in place of what the same took before. The figures go to
benchmarks/results-quick/; the full results stay as they are. A benchmark that fails does not stop those after it; the
exit code is 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import earlier, save
from benchmarks.shared.tables import console, print_table

Row = dict[str, Any]
HERE = Path(__file__).parent
NAME = "run-all"  # of the times among the results
MOST_SECONDS = 600  # of one benchmark
END_SECONDS = 10  # that what is killed may take to be gone
DATA = {"hpo_report": "cifar10-12k.npz"} | dict.fromkeys(("lenet4", "parallel_pso", "time_to_accuracy"), "mnist.npz")
OPTIONS = {  # what else would take minutes
    "chaos": ("--training", "0.2"),
    "dashboard": ("--seconds", "3"),
    "drain": ("--workers", "2"),
    "dlopt": ("--parts", "architectures", "weights", "--series", "sine"),
    "loop": ("--only", "takeover", "crowds", "code"),
    "one_machine": ("--only", "start", "calls"),
    "parallel_pso": ("--only", "simplenet1"),
    "peers": ("--only", "utilisation", "overhead", "repeats"),
    "scaling": ("--parts", "strong"),
    "speedup": ("--only", "start"),
}


def benchmarks() -> dict[str, Path]:
    """Every benchmark by name: what has a quick form."""
    others = sorted(HERE.glob("*/*.py"))
    return {file.stem: file for file in others if 'add_argument("--quick"' in file.read_text()}


def quick(name: str, file: Path) -> str:
    """Run one; how it ended."""
    data = os.environ.get("SWARM_DATA")
    if name in DATA and not (data and Path(data, DATA[name]).is_file()):  # Keras would download it
        return f"left out: no {DATA[name]} in the folder that SWARM_DATA names"
    console.rule(f"{name} --quick", align="left")
    process = psutil.Popen([sys.executable, file, "--quick", *OPTIONS.get(name, ())])
    try:
        code = process.wait(MOST_SECONDS)
    except psutil.TimeoutExpired:
        return f"failed: took more than {MOST_SECONDS} s"
    finally:
        if process.is_running():
            end(process)
    return "passed" if code == 0 else f"failed: exit code {code}"


def end(process: psutil.Process) -> None:
    """Kill it and all that it has started, whatever sessions these have made for themselves; they are gone then."""
    doomed = [*process.children(recursive=True), process]
    for each in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(doomed, END_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = benchmarks()
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(known), help=f"only these: {', '.join(known)}")
    parser.add_argument("--keep", action="store_true", help="keep the times in benchmarks/results, for the summary")
    options = parser.parse_args()
    if unknown := set(options.names) - known.keys():
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    rows = []
    for name in options.names:
        began, before = time.perf_counter(), cpu_seconds()
        row = {"name": name, "end": quick(name, known[name])}
        rows.append({**row, "seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - before})
        console.print(f"{name}: {row['end']}, {rows[-1]['seconds']:.0f} s\n", highlight=False)
    print_table(
        f"{len(rows)} benchmarks, quick form, {sum(row['seconds'] for row in rows):.0f} s",
        ("benchmark", "end", "s", "of a core"),
        ((row["name"], row["end"], f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.0f}") for row in rows),
        words=["end"],
    )
    if options.keep:
        save(NAME, {"rows": joined(earlier(NAME, ["rows"]).get("rows", []), rows)})
    return any(row["end"].startswith("failed") for row in rows)


def joined(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """The rows in the order of the benchmarks; of one that did not run now, that of before."""
    known = {row["name"]: row for row in (*before, *rows)}
    return [known[name] for name in benchmarks() if name in known]


def cpu_seconds() -> float:
    """What the processes that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
