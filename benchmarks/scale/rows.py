"""How it scales."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.shared.numbers import many, ranged, spread
from benchmarks.shared.rows import SCALE, Reader, Result, Row, remark


def speedup_sleep(result: Result) -> Iterator[Row]:
    for durations, known in dict.fromkeys((row["durations"], row["archive"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row["durations"], row["archive"]) == (durations, known)]
        archive = "" if known == "empty" else f", archive with {known}"
        close, asked = ([100 * row[name] for row in rows] for name in ("efficiency", "as_asked"))
        yield Row(
            SCALE,
            f"Time of a generational swarm against its bound; durations {durations}{archive}",
            f"bound / time {ranged(close, '.0f', ' %')}; the schedule in the order of asking, without any overhead, "
            f"/ time {ranged(asked, '.0f', ' %')}; speed-up {ranged([row['speedup'] for row in rows], '.1f')}",
            f"{rows[0]['slots']} sleeping slots, {rows[0]['trained']} trainings, "
            f"{statistics.median(row['total'] for row in rows):.0f} s in all; {many(len(rows), 'seed')}",
            "python benchmarks/scale/speedup.py --only sleep",
        )


def scaling(result: Result) -> Iterator[Row]:
    command = "python benchmarks/scale/scaling.py --parts"
    strong, weak, archive = (result.get(part, []) for part in ("strong", "weak", "archive"))
    shape = f"{result['generations']} generations, {many(max(row['seed'] for row in strong), 'seed')}"
    emulated = f"sleeping slots, trainings of median {result['median']} s; {shape}; ± half a 95 % interval"
    for method in dict.fromkeys(row["method"] for row in strong):
        mine = [row for row in strong if row["method"] == method]
        speed = {n: [row["total"] / row["wall"] for row in mine if row["slots"] == n] for n in slot_counts(mine)}
        close = [row["bound"] / row["wall"] for row in mine if row["slots"] == max(speed)]
        yield Row(
            SCALE, f"Strong scaling of {method}: speed-up of the same search",
            f"{', '.join(f'{spread(values)} on {n}' for n, values in speed.items())}; "
            f"{spread(close)} of its bound on {max(speed)}",
            f"16 particles on {emulated}", f"{command} strong",
        )  # fmt: skip
    for method in dict.fromkeys(row["method"] for row in weak):
        mine = [row for row in weak if row["method"] == method]
        pace = {n: [row["total"] / n / row["wall"] for row in mine if row["slots"] == n] for n in slot_counts(mine)}
        one = statistics.mean(pace[min(pace)])
        yield Row(
            SCALE, f"Weak scaling of {method}: pace of a slot, that of one slot alone is 1",
            ", ".join(f"{spread([value / one for value in values])} on {n}" for n, values in pace.items()),
            f"two particles per slot, {emulated}", f"{command} weak",
        )  # fmt: skip
    if archive:
        kept, lost = ([row for row in archive if row["archive"] is flag] for flag in (True, False))
        yield Row(
            SCALE, "The archive: trainings of a swarm in 256 positions, and its time",
            f"{spread([row['trained'] for row in kept], '.0f')} instead of "
            f"{spread([row['trained'] for row in lost], '.0f')} trainings; "
            f"{spread([a['wall'] / b['wall'] for a, b in zip(kept, lost, strict=True)])} × the time",
            f"16 particles, 12 generations, 8 sleeping slots, {many(len(kept), 'seed')}", f"{command} archive",
        )  # fmt: skip
    for row in result.get("gpus", []):
        yield Row(
            SCALE, f"Real GPUs: {row['gpus']}, {row['gpus_per_training']:g} of one per training",
            f"{row['per_minute']:.1f} trainings per minute, {row['mib']:,} MiB", "the digits network",
            f"{command} gpus",
        )  # fmt: skip


def slot_counts(rows: Sequence[Result]) -> list[int]:
    return sorted({row["slots"] for row in rows})


def speedup_start(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"From submitting a training to its first step, isolation: {row['isolation']}",
            f"{row['next']:.2f} s (the first {row['first']:.1f} s); {row['mib']:.0f} MiB per slot",
            f"{len(row['all'])} trainings of a small Keras network" + remark(result),
            "python benchmarks/scale/speedup.py --only start",
        )  # fmt: skip


def async_vs_sync(result: Result) -> Iterator[Row]:
    most = max(row["slots"] for row in result["rows"])
    for stragglers in (False, True):
        pairs = [r for r in result["rows"] if r["slots"] == most and r["stragglers"] is stragglers]
        shortest = min(row["median"] for row in pairs)
        sync, free = (
            [row for row in pairs if (row["method"], row["median"]) == (method, shortest)]
            for method in ("PSO", "AsyncPSO")
        )
        busy = [ranged([100 * row["utilisation"] for row in rows], ".0f") for rows in (sync, free)]
        wall = [ranged([row["wall"] for row in rows], ".0f") for rows in (sync, free)]
        yield Row(
            SCALE, f"Barrier or none, {'10 % stragglers of ten times the length' if stragglers else 'no stragglers'}",
            f"slots busy {' → '.join(busy)} % without the barrier, {' → '.join(wall)} s; then "
            f"{ranged([row['gap_ms'] for row in free], '.0f')} ms between two trainings of a slot",
            f"{most} sleeping slots, {free[0]['trained']} trainings, median {shortest} s; {many(len(free), 'seed')}",
            "python benchmarks/scale/async_vs_sync.py",
            "Parallel PSO: idle slots wait for the slowest, no number; section 4.3",
        )  # fmt: skip


def scale(result: Result) -> Iterator[Row]:
    rows = result["rows"]
    for row in rows:
        growth = row["last_tenth_ms"] / row["first_tenth_ms"]
        yield Row(
            SCALE, f"{row['method']}: the master's work per evaluation",
            f"{row['ms']:.2f} ms of CPU ({growth:.1f} × as much in the last tenth as in the first), "
            f"{row['peak_mib']:.0f} MiB, {row['store_bytes']:.0f} bytes in the store",
            f"{row['slots']:,} virtual GPUs, {row['evaluations']:,} evaluations" + remark(result),
            "python benchmarks/scale/scale.py",
        )  # fmt: skip


def dask_limit(result: Result) -> Iterator[Row]:
    command, costs = "python benchmarks/scale/dask_limit.py", result["costs"]
    workers = [row["workers"] for row in result["rows"]]
    scale = (
        f"{workers[0]:,} to {many(workers[-1], 'real Dask worker')} in one process, whose trainings sleep; "
        f"{result['rows'][0]['per_second']:.0f} evaluations/s" + remark(result)
    )
    yield Row(
        SCALE, "CPU of the service per evaluation, with N workers",
        f"master {1000 * costs['master']:.1f} ms + {1e6 * costs['master_slope']:.1f} µs × N; scheduler "
        f"{1000 * costs['scheduler']:.1f} ms + {1e6 * costs['scheduler_slope']:.1f} µs × N; a heartbeat "
        f"{1000 * costs['beat']:.2f} ms",
        scale, command,
    )  # fmt: skip
    if machines := result.get("machines"):
        n = machines["workers"]
        alike = [row["scheduler_ms"] for row in result["rows"] if row["workers"] == n]
        alone = f"; with as many of one slot {alike[0]:.1f} ms" if alike else ""
        yield Row(
            SCALE, f"The scheduler's CPU per evaluation with {n} machines of {machines['slots'] // n} slots each",
            f"{machines['scheduler_ms']:.1f} ms{alone}; with {machines['slots']} of one slot, by the line above, "
            f"{1000 * (costs['scheduler'] + costs['scheduler_slope'] * machines['slots']):.1f} ms",
            scale, command,
        )  # fmt: skip
    for length, most in result["limits"].items():
        first = min(most, key=lambda name: most[name])
        yield Row(
            SCALE, f"GPUs at which trainings of {length} take 70 % of a core",
            f"{most['master']:,} of the master's, {most['scheduler']:,} of the scheduler's: the {first} is the limit",
            "calculated from the line above, beyond what was measured; docs/guides/scale.md", command,
        )  # fmt: skip


def population(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"{row['method']} with a population of {row['times']} × the GPUs",
            f"GPUs busy {100 * row['busy']:.0f} %, where {100 * row['expected']:.0f} % were to be expected of "
            f"{row['between_barriers']:g} trainings per GPU between barriers",
            f"{row['slots']:,} virtual GPUs; the longest training {row['longest']:.1f} × the mean" + remark(result),
            "python benchmarks/scale/population.py",
        )  # fmt: skip


READERS: dict[str, Reader] = {
    "scaling": scaling,
    "speedup-sleep": speedup_sleep,
    "speedup-start": speedup_start,
    "async-vs-sync": async_vs_sync,
    "scale": scale,
    "scale-million": scale,
    "dask-limit": dask_limit,
    "population": population,
}
