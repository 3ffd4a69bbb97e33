"""What the service, its pages and a slice of a training cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.shared.numbers import many, ranged
from benchmarks.shared.rows import COST, Reader, Result, Row

_COMMAND = "python benchmarks/cost/one_machine.py --only"


def slices(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            COST, f"A slice of one epoch ({row['network']}), process: {row['process']}",
            f"{100 * row['overhead']:.0f} % more CPU than the epoch: building {row['build_and_trace']:.2f} s, "
            f"checkpoint {row['restore'] + row['save']:.2f} s, beside {row['epoch']:.2f} s",
            f"median of {result['slices']} slices, one core", "SWARM_DATA=data python benchmarks/cost/slices.py",
        )  # fmt: skip


def service(result: Result) -> Iterator[Row]:
    command = "python benchmarks/cost/service.py"
    if crowds := result.get("crowd"):
        look, submit = (
            [ranged([crowd[name][share] for crowd in crowds], ".0f") for share in ("median", "p95")]
            for name in ("look_ms", "submit_ms")
        )
        yield Row(
            COST, "Many clients at once",
            f"{sum(crowd['finished'] for crowd in crowds)} of {sum(crowd['jobs'] for crowd in crowds)} jobs done, each "
            f"{crowds[0]['jobs']} in {ranged([crowd['wall_seconds'] for crowd in crowds], '.0f', ' s')}; a look takes "
            f"{look[0]} ms (95 %: {look[1]}), a submission {submit[0]} ms (95 %: {submit[1]})",
            f"20 clients submit, 50 look once a second; 2 slots, evaluations take no time; {many(len(crowds), 'run')}",
            command,
        )  # fmt: skip
    if shares := result.get("fairness"):
        yield Row(
            COST, "Sharing by priority, 3 to 1",
            f"{ranged([share['ratio'] for share in shares], '.2f')} to 1 slot seconds",
            f"two jobs whose trainings take 0.5 and 1.5 s, 8 sleeping slots; {many(len(shares), 'run')}", command,
        )  # fmt: skip
    if takeovers := result.get("takeover"):
        yield Row(
            COST, "The master is killed while another stands by",
            f"{ranged([each['seconds_to_take_over'] for each in takeovers], '.1f', ' s')} until that has taken over; "
            f"{sum(each['finished_twice'] for each in takeovers)} of {sum(each['trained'] for each in takeovers)} "
            "trainings done twice",
            f"8 sleeping slots, a lease of {takeovers[0]['lease_seconds']} s; {many(len(takeovers), 'run')}", command,
        )  # fmt: skip


def long_journals(result: Result) -> Iterator[Row]:
    yield Row(
        COST, "A master takes over many jobs with long journals",
        "; ".join(
            f"from {how}: it serves after {each['serving']:.1f} s, all is replayed after {each['replayed']:.0f} s, "
            f"{each['rate']:,.0f} events a second, {each['rate_cpu']:,.0f} a second of the processor's; meanwhile a "
            f"request takes {1000 * each['median']:.0f} ms, {1000 * each['slowest']:.0f} ms at most"
            for how, each in ((how, result[how]) for how in ("journals", "snapshots"))
        ),
        f"{result['jobs']} particle swarms with {result['events']:,} events in all; its start included",
        "python benchmarks/cost/long_journals.py",
    )  # fmt: skip


def loop(result: Result) -> Iterator[Row]:
    parts = {name: found for name, found in result.items() if isinstance(found, dict) and "callbacks" in found}
    yield Row(
        COST, "How long the master's loop is held up",
        "; ".join(
            f"{name}: {1000 * found['slowest']:.0f} ms at most, {len(found['slow'])} times more than 50 ms"
            for name, found in parts.items()
        ),
        f"of the processor's time, {sum(found['callbacks'] for found in parts.values()):,} callbacks; a client asks "
        "for jobs, states and events all the while",
        "python benchmarks/cost/loop.py",
    )  # fmt: skip


def year(result: Result) -> Iterator[Row]:
    first, last = result["looks"][0], result["looks"][-1]
    middle = result["looks"][len(result["looks"]) // 2]
    sizes = "; ".join(
        f"{name} {', '.join(str(round(each['memory_mib'][name])) for each in (first, middle, last))} MiB"
        for name in first["memory_mib"]
    )
    times = ", ".join(
        f"{name} {first[name]['median']:.0f} → {last[name]['median']:.0f} ms" for name in ("jobs", "status", "submit")
    )
    before = result.get("before", 0)
    yield Row(
        COST, "Many short jobs, one after the other",
        f"memory at the beginning, the middle and the end: {sizes}; answers (median): {times}",
        f"{result['jobs'] - before:,} jobs of four trials in {result['wall_seconds']:.0f} s, 20 at a time, in a store "
        f"with {before:,} that have ended; 2 slots",
        "python benchmarks/cost/year.py",
    )  # fmt: skip


def dashboard(result: Result) -> Iterator[Row]:
    phases = {True: [], False: []}  # type: dict[bool, list[Result]]
    for phase in result["phases"]:
        phases[phase["page"] is not None].append(phase)
    late = {opened: statistics.median(phase["late_p99_ms"] for phase in rows) for opened, rows in phases.items()}
    command = "python benchmarks/cost/dashboard.py"
    yield Row(
        COST, "An open page of the dashboard",
        f"{result['ratio']:.2f} × the evaluations per second ({min(result['ratios']):.2f} to "
        f"{max(result['ratios']):.2f}); the scheduler's loop is {late[False]:.0f} → {late[True]:.0f} ms late (99 %)",
        f"{len(result['ratios'])} pairs of phases; 2 slots, evaluations take no time; the page is not drawn", command,
    )  # fmt: skip
    if page := result.get("page"):
        first, last = page[0], page[-1]
        yield Row(
            COST, "A page that is left open",
            f"{first['page_mib']:.0f} → {last['page_mib']:.0f} MiB in the browser, {first['scheduler_mib']:.0f} → "
            f"{last['scheduler_mib']:.0f} MiB in the scheduler, {last['errors']:.0f} errors",
            f"{last['told'] - first['told']:,} evaluations in {last['seconds']:.0f} s", command,
        )  # fmt: skip


def one_machine(result: Result) -> Iterator[Row]:
    cores = f"real trainings, CPU slots on {result['machine']['cores']} cores"
    if "memory" in result:
        yield Row(
            COST,
            "Memory (PSS) of a search while the digits network trains",
            f"{_of(result['memory'], 'further', '.0f', ' MiB')} for each further slot; in all "
            f"{_by_slots(result['memory'], ',.0f', ' MiB')}",
            cores,
            f"{_COMMAND} memory",
        )
    if "data" in result:
        held = result["data"][0]
        yield Row(
            COST,
            f"A data set of 1 GiB that trainings on {held['slots']} slots read at a time",
            f"held {held['times']:.2f} times: {held['many']:,.0f} MiB in all, {held['without']:,.0f} MiB without it",
            "trainings that read it, and sleep",
            f"{_COMMAND} data",
        )
    if "start" in result:
        few, most = sorted(result["start"][0], key=int)
        ratios = [row[most] / row[few] for row in result["start"]]
        yield Row(
            COST,
            "From calling Python to the first result of the digits network",
            f"{_by_slots(result['start'], '.1f', ' s')}: {ranged(ratios, '.1f')} ×",
            cores,
            f"{_COMMAND} start",
        )
    if "second" in result:
        yield Row(
            COST,
            "A second job, with code of its own, on a warm service: from submission to its first training step",
            _by_slots(result["second"], ".1f", " s"),
            "a small Keras network after the digits network",
            f"{_COMMAND} second",
        )
    if "calls" in result:
        yield Row(
            COST,
            "208 calls of a cheap function",
            "; ".join(_calls(result["calls"])),
            "examples/branin.py on two slots, store included; Optuna in memory, one at a time",
            f"{_COMMAND} calls",
        )


def _of(rows: Sequence[dict[str, float]], name: str, form: str, unit: str) -> str:
    return ranged([row[name] for row in rows], form, unit)


def _by_slots(rows: Sequence[dict[str, float]], form: str, unit: str) -> str:
    """dict[str, float] whose names are numbers of slots."""
    counts = sorted((name for name in rows[0] if name.isdigit()), key=int)
    return ", ".join(f"{_of(rows, count, form, unit)} on {many(int(count), 'slot')}" for count in counts)


def _calls(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    for name, who in (("branin", "ours"), ("optuna", "Optuna TPE")):
        if f"{name}_cpu" in rows[0]:
            cpu, wall, first = (_of(rows, f"{name}_{key}", ".2f", " s") for key in ("cpu", "wall", "first"))
            yield f"{who} {cpu} of CPU, {wall} in all, the first call after {first}"


READERS: dict[str, Reader] = {
    "one-machine": one_machine,
    "slices": slices,
    "service": service,
    "long-journals": long_journals,
    "year": year,
    "loop": loop,
    "dashboard": dashboard,
}
