"""What the slots of one machine cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.shared.rows import COST, Result, Row, many, ranged

Figures = dict[str, float]
COMMAND = "python benchmarks/cost/one_machine.py --only"


def one_machine(result: Result) -> Iterator[Row]:
    cores = f"real trainings, CPU slots on {result['machine']['cores']} cores"
    if "memory" in result:
        yield Row(
            COST,
            "Memory (PSS) of a search while the digits network trains",
            f"{of(result['memory'], 'further', '.0f', ' MiB')} for each further slot; in all "
            f"{by_slots(result['memory'], ',.0f', ' MiB')}",
            cores,
            f"{COMMAND} memory",
        )
    if "data" in result:
        held = result["data"][0]
        yield Row(
            COST,
            f"A data set of 1 GiB that trainings on {held['slots']} slots read at a time",
            f"held {held['times']:.2f} times: {held['many']:,.0f} MiB in all, {held['without']:,.0f} MiB without it",
            "trainings that read it, and sleep",
            f"{COMMAND} data",
        )
    if "start" in result:
        few, most = sorted(result["start"][0], key=int)
        yield Row(
            COST,
            "From calling Python to the first result of the digits network",
            f"{by_slots(result['start'], '.1f', ' s')}: {ranged([r[most] / r[few] for r in result['start']], '.1f')} ×",
            cores,
            f"{COMMAND} start",
        )
    if "second" in result:
        yield Row(
            COST,
            "A second job, with code of its own, on a warm service: from submission to its first training step",
            by_slots(result["second"], ".1f", " s"),
            "a small Keras network after the digits network",
            f"{COMMAND} second",
        )
    if "calls" in result:
        yield Row(
            COST,
            "208 calls of a cheap function",
            "; ".join(calls(result["calls"])),
            "examples/branin.py on two slots, store included; Optuna in memory, one at a time",
            f"{COMMAND} calls",
        )


def of(rows: Sequence[Figures], name: str, form: str, unit: str) -> str:
    return ranged([row[name] for row in rows], form, unit)


def by_slots(rows: Sequence[Figures], form: str, unit: str) -> str:
    """Figures whose names are numbers of slots."""
    counts = sorted((name for name in rows[0] if name.isdigit()), key=int)
    return ", ".join(f"{of(rows, count, form, unit)} on {many(int(count), 'slot')}" for count in counts)


def calls(rows: Sequence[Figures]) -> Iterator[str]:
    for name, who in (("branin", "ours"), ("optuna", "Optuna TPE")):
        if f"{name}_cpu" in rows[0]:
            cpu, wall, first = (of(rows, f"{name}_{key}", ".2f", " s") for key in ("cpu", "wall", "first"))
            yield f"{who} {cpu} of CPU, {wall} in all, the first call after {first}"
