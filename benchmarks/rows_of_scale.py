"""How it scales, and what faults and the service cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rows import COST, SCALE, Result, Row, many, remark, spread


def speedup_sleep(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        archive = "" if row["archive"] == "empty" else f", archive with {row['archive']}"
        yield Row(
            SCALE,
            f"Time of a generational swarm against its bound; durations {row['durations']}{archive}",
            f"bound / time {100 * row['efficiency']:.0f} %; the schedule in the order of asking, without any overhead, "
            f"/ time {100 * row['as_asked']:.0f} %; speed-up {row['speedup']:.1f}",
            f"{row['slots']} sleeping slots, {row['trained']} trainings, {row['total']:.0f} s in all",
            "python benchmarks/speedup.py --only sleep",
        )


def scaling(result: Result) -> Iterator[Row]:
    command = "python benchmarks/scaling.py --parts"
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
            "python benchmarks/speedup.py --only start",
        )  # fmt: skip


def async_vs_sync(result: Result) -> Iterator[Row]:
    most = max(row["slots"] for row in result["rows"])
    for stragglers in (False, True):
        pairs = [r for r in result["rows"] if r["slots"] == most and r["stragglers"] is stragglers]
        shortest = min(row["median"] for row in pairs)
        rows = {row["method"]: row for row in pairs if row["median"] == shortest}
        sync, free = rows["PSO"], rows["AsyncPSO"]
        yield Row(
            SCALE, f"Barrier or none, {'10 % stragglers of ten times the length' if stragglers else 'no stragglers'}",
            f"slots busy {100 * sync['utilisation']:.0f} % → {100 * free['utilisation']:.0f} % without the barrier, "
            f"{sync['wall']:.0f} → {free['wall']:.0f} s; then {free['gap_ms']:.0f} ms between two trainings of a slot",
            f"{most} sleeping slots, {free['trained']} trainings, median {shortest} s",
            "python benchmarks/async_vs_sync.py",
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
            "python benchmarks/scale.py",
        )  # fmt: skip


def dask_limit(result: Result) -> Iterator[Row]:
    command, costs = "python benchmarks/dask_limit.py", result["costs"]
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
            "python benchmarks/population.py",
        )  # fmt: skip


def slices(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"A slice of one epoch ({row['network']}), process: {row['process']}",
            f"{100 * row['overhead']:.0f} % more CPU than the epoch: building {row['build_and_trace']:.2f} s, "
            f"checkpoint {row['restore'] + row['save']:.2f} s, beside {row['epoch']:.2f} s",
            f"median of {result['slices']} slices, one core", "SWARM_DATA=data python benchmarks/slices.py",
        )  # fmt: skip


# --- faults and the service


def chaos(result: Result) -> Iterator[Row]:
    jobs, undisturbed = result["jobs"], result["undisturbed"]
    kills = ", ".join(f"{count} × {kind}" for kind, count in result["kills"].items())
    twice = sum(job["trained_twice"] for job in jobs.values())
    interrupted, trained = (sum(job[name] for job in jobs.values()) for name in ("interrupted", "trained"))
    same = all(jobs[name]["best"] == undisturbed[name]["best"] for name in jobs)
    yield Row(
        COST, f"{sum(result['kills'].values())} faults while two searches run",
        f"{'the same best as' if same else 'ANOTHER best than'} undisturbed; {interrupted} of {trained} trainings cut "
        f"short and begun again, {twice} finished twice, "
        f"{sum(job['failed'] for job in jobs.values())} failed",
        f"{kills}; 8 sleeping slots, {result['wall_seconds']:.0f} s", "python benchmarks/chaos.py",
    )  # fmt: skip


def service(result: Result) -> Iterator[Row]:
    command = "python benchmarks/service.py"
    if crowd := result.get("crowd"):
        yield Row(
            COST, "Many clients at once",
            f"{crowd['finished']} of {crowd['jobs']} jobs done in {crowd['wall_seconds']:.0f} s; a look takes "
            f"{crowd['look_ms']['median']:.0f} ms (95 %: {crowd['look_ms']['p95']:.0f}), a submission "
            f"{crowd['submit_ms']['median']:.0f} ms (95 %: {crowd['submit_ms']['p95']:.0f})",
            "20 clients submit, 50 look once a second; 2 slots, evaluations take no time", command,
        )  # fmt: skip
    if fairness := result.get("fairness"):
        yield Row(
            COST, "Sharing by priority, 3 to 1", f"{fairness['ratio']:.2f} to 1 slot seconds",
            "two jobs whose trainings take 0.5 and 1.5 s, 8 sleeping slots", command,
        )  # fmt: skip
    if takeover := result.get("takeover"):
        yield Row(
            COST, "The master is killed while another stands by",
            f"{takeover['seconds_to_take_over']:.1f} s until that has taken over; {takeover['finished_twice']} of "
            f"{takeover['trained']} trainings done twice",
            f"8 sleeping slots, a lease of {takeover['lease_seconds']} s", command,
        )  # fmt: skip


def dashboard(result: Result) -> Iterator[Row]:
    phases = {True: [], False: []}  # type: dict[bool, list[Result]]
    for phase in result["phases"]:
        phases[phase["page"] is not None].append(phase)
    late = {opened: statistics.median(phase["late_p99_ms"] for phase in rows) for opened, rows in phases.items()}
    command = "python benchmarks/dashboard.py"
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
