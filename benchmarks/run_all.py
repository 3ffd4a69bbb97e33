"""The quick form of every benchmark, one after another: whether each works, and roughly what it says.

    SWARM_DATA=data python benchmarks/run_all.py [--keep] [NAME …]

Those on MNIST and CIFAR-10 are left out where the data are not. The table at the end says how long each took; --keep
puts it among the results, for the summary. The figures go to benchmarks/results-quick/; the full results stay as they
are. A benchmark that fails does not stop those after it; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import save
from benchmarks.shared.tables import console, print_table

HERE = Path(__file__).parent
NAME = "run-all"  # of the times among the results
MOST_SECONDS = 600  # of one benchmark
DATA = {"hpo_report": "cifar10-12k.npz"} | dict.fromkeys(("lenet4", "parallel_pso", "time_to_accuracy"), "mnist.npz")
OPTIONS = {  # what else would take minutes
    "dashboard": ("--seconds", "5"),
    "dlopt": ("--parts", "throughput", "weights"),
    "parallel_pso": ("--only", "simplenet1"),
    "peers": ("--only", "utilisation", "overhead", "repeats", "faults"),
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
    """Kill it and all that it has started, whatever sessions these have made for themselves."""
    for each in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = benchmarks()
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(known), help=f"only these: {', '.join(known)}")
    parser.add_argument("--keep", action="store_true", help="keep the times in benchmarks/results, for the summary")
    options = parser.parse_args()
    if unknown := set(options.names) - known.keys():
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    ends: dict[str, tuple[str, float]] = {}
    for name in options.names:
        began = time.perf_counter()
        ends[name] = quick(name, known[name]), time.perf_counter() - began
        console.print(f"{name}: {ends[name][0]}, {ends[name][1]:.0f} s\n", highlight=False)
    print_table(
        f"{len(ends)} benchmarks, quick form, {sum(s for _, s in ends.values()):.0f} s",
        ("benchmark", "end", "s"),
        ((name, end, f"{seconds:.0f}") for name, (end, seconds) in ends.items()),
        words=["end"],
    )
    if options.keep:
        rows = [{"name": name, "end": end, "seconds": round(seconds)} for name, (end, seconds) in ends.items()]
        save(NAME, {"rows": rows})
    return any(end.startswith("failed") for end, _ in ends.values())


if __name__ == "__main__":
    sys.exit(main())
