"""What faults cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.shared.numbers import many
from benchmarks.shared.rows import FAULTS, Reader, Result, Row


def chaos(result: Result) -> Iterator[Row]:
    runs, undisturbed = result["runs"], result["undisturbed"]
    kills = sum((Counter(run["kills"]) for run in runs), Counter[str]())
    jobs = [(name, job) for run in runs for name, job in run["jobs"].items()]
    total = {name: sum(job[name] for _, job in jobs) for name in ("interrupted", "trained", "trained_twice", "failed")}
    why = " (where a machine or worker hung until it was given up; they count once)" if "hung machine" in kills else ""
    whose = "of the store " if {"locked store", "suspended server"} & set(kills) else ""
    same = sum(job["best"] == undisturbed[name]["best"] for name, job in jobs)
    yield Row(
        FAULTS, f"{kills.total()} faults {whose}while two searches run, {many(len(runs), 'run')}",
        f"the best of an undisturbed search in {same} of {len(jobs)}; {total['interrupted']} of {total['trained']:,} "
        f"trainings cut short and begun again, {total['trained_twice']} finished twice{why}, {total['failed']} failed",
        f"{', '.join(f'{count} × {kind}' for kind, count in kills.most_common())}; 8 sleeping slots, "
        f"{sum(run['wall_seconds'] for run in runs):.0f} s", "python benchmarks/faults/chaos.py",
    )  # fmt: skip


def drain(result: Result) -> Iterator[Row]:
    told, killed = result["sigterm"], result["sigkill"]
    same = all(run["same_answer"] for run in (told, killed))
    yield Row(
        FAULTS, f"{told['told']} workers told to end in turn, against as many that are killed",
        f"{told['lost_seconds']:.1f} s of training lost, {killed['lost_seconds']:.1f} s if killed: "
        f"{100 * result['ratio']:.1f} %; {told['failed'] + killed['failed']} failed, "
        f"{'the answers of undisturbed trainings' if same else 'other answers than undisturbed trainings'}",
        f"sleeping trainings of {result['training_seconds']:g} s that save every {result['save_seconds']:g} s, 4 slots",
        "python benchmarks/faults/drain.py",
    )  # fmt: skip


READERS: dict[str, Reader] = {
    "chaos": chaos,
    "chaos-hangs": chaos,
    "chaos-postgres": chaos,
    "chaos-sqlite": chaos,
    "drain": drain,
}
