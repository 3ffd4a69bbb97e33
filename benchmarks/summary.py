"""What the benchmarks have found: every figure comes from a file in benchmarks/results/.

It writes benchmarks/README.md, and of the comparison with peers the page docs/guides/compared.md.

    python benchmarks/summary.py            # after any benchmark

Beside ours stands what the papers say, each from its table, figure or section; rows.py of each folder has both. To add
a benchmark, write a function there that yields rows from its JSON, and list it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the root: benchmarks is a package there
from benchmarks.cost import rows as of_cost
from benchmarks.faults import rows as of_faults
from benchmarks.papers import rows as of_papers
from benchmarks.peers import minute
from benchmarks.peers import rows as of_peers
from benchmarks.run_all import NAME
from benchmarks.scale import rows as of_scale
from benchmarks.shared.rows import QUESTIONS, Result, Row
from benchmarks.shared.saving import KEPT, ROOT, written

README = ROOT / "benchmarks" / "README.md"
COMPARED = ROOT / "docs" / "guides" / "compared.md"  # and the picture on it
PICTURE = "../images/compared.png"
READERS = of_papers.READERS | of_peers.READERS | of_scale.READERS | of_faults.READERS | of_cost.READERS
NOT_YET = (
    "ResNet-20 itself and the capsule network on CIFAR-10, which take GPUs; P3B1, RPV and translation on real data, "
    "which are not public or not at hand.",
    "One real GPU: pinning, memory given back, fork safety, kills, strangers, several trainings at a time, time to the "
    "first step: `bash benchmarks/gpu/check.sh` checks them in eight minutes, and has not run on a GPU yet.",
    "Real GPUs, from one to many, and several trainings on one: `python benchmarks/scale/scaling.py --parts gpus`.",
    "A second run of the hours that train networks: their rows say over how many seeds or folds. What has no [lowest, "
    "highest], ± or number of seeds is of a single run: the master's work per evaluation, the service with N workers, "
    "the cost of a slice.",
)


def results(folder: Path = KEPT) -> dict[str, Result]:
    """What was measured, by benchmark."""
    files = {name: folder / name / f"{name}.json" for name in READERS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


def page(found: dict[str, Result], pictures: Sequence[str] = (), times: Result | None = None) -> str:
    """The whole page.

    Args:
        found: Results by benchmark, of which any may be absent.
        pictures: Where the figures are, relative to the page.
        times: How long the quick forms took.
    """
    rows = [_as_called(row, result) for name, result in found.items() for row in READERS[name](result)]
    gaps = list(dict.fromkeys(row.gap for row in rows if row.gap))
    absent = [f"`{name}`: no results are kept yet." for name in READERS if name not in found]
    parts = ["# Benchmarks", _introduction(found, times)]
    for question, about in QUESTIONS.items():
        here = [row for row in rows if row.question == question]
        parts += [f"## {question}", about, *_table(here)]
        if behind := [row.behind for row in here if row.behind]:
            parts += ["Ahead of ours:", *_list(behind)]
    parts += ["## What was not reproduced, and why", *_list(gaps)]
    parts += ["## What is not benchmarked yet", *_list([*absent, *NOT_YET])]
    if pictures:
        parts += ["## Figures", *_list([f"[{Path(each).stem}]({each})" for each in pictures])]
    return "\n\n".join(parts) + "\n"


def _as_called(row: Row, result: Result) -> Row:
    """The row with the command that was really given, where the result says which that was, and it was but one."""
    if "--parts" in row.command:
        return row
    prefix = "SWARM_DATA=data " if row.command.startswith("SWARM_DATA") else ""
    return replace(row, command=prefix + result["command"]) if "command" in result else row


def _introduction(found: dict[str, Result], times: Result | None) -> str:
    machines = [result["machine"] for result in found.values()]
    cores = sorted({machine["cores"] for machine in machines})
    dates = sorted({machine["date"] for machine in machines})
    packages = ("dask", "distributed", "tensorflow-cpu", "tensorflow", "keras")
    versions = dict(pair for machine in machines for pair in machine["versions"].items() if pair[0] in packages)
    return (
        "Written by `python benchmarks/summary.py` from the files in `benchmarks/results/`; do not edit.\n"
        "`make bench` runs the quick form of every benchmark, into "
        f"`benchmarks/results-quick/`{'' if times is None else _together(times)}.\n\n"
        f"Measured on a machine with {' or '.join(map(str, cores)) or 'no'} CPU cores, "
        f"{' to '.join(dict.fromkeys((dates or ['never'])[:: max(1, len(dates) - 1)]))}, with "
        f"{', '.join(f'{name} {number}' for name, number in sorted(versions.items()))}. Other work shared that machine "
        "now and then, so ratios tell more than seconds."
    )


def _together(times: Result) -> str:
    """How long the quick forms took, one after the other."""
    ran = [row for row in times["rows"] if not row["end"].startswith("left out")]
    minutes = sum(row["seconds"] for row in ran) / 60
    used = sum(row["cpu_seconds"] for row in ran) / 60
    return (
        f": {len(ran)} of them in {minutes:.0f} minutes on {times['machine']['cores']} cores, "
        f"{used:.0f} minutes of a core's time"
    )


def _table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Nothing yet."]
    lines = ["| what | paper says | we measured | scale, and what was emulated | command |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.what, row.paper, row.measured, row.scale, f"`{row.command}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return ["\n".join(lines)]


def _list(items: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {item}" for item in items)] if items else ["Nothing."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    README.write_text(current())
    COMPARED.write_text(minute.page(results(), PICTURE))
    minute.draw(results(), COMPARED.parent / PICTURE)
    for file in (README, COMPARED):
        written(file)


def current() -> str:
    """The page of what is in benchmarks/results/ now."""
    pictures = sorted(str(file.relative_to(README.parent)) for file in KEPT.glob("*/*.png"))
    times = KEPT / NAME / f"{NAME}.json"
    return page(results(), pictures, json.loads(times.read_text()) if times.is_file() else None)


if __name__ == "__main__":
    main()
