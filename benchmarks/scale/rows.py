"""How it scales, and what faults and the service cost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.shared.rows import COST, SCALE, Result, Row, many, ranged, remark, spread


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


def slices(result: Result) -> Iterator[Row]:
    for row in result["rows"]:
        yield Row(
            SCALE, f"A slice of one epoch ({row['network']}), process: {row['process']}",
            f"{100 * row['overhead']:.0f} % more CPU than the epoch: building {row['build_and_trace']:.2f} s, "
            f"checkpoint {row['restore'] + row['save']:.2f} s, beside {row['epoch']:.2f} s",
            f"median of {result['slices']} slices, one core", "SWARM_DATA=data python benchmarks/cost/slices.py",
        )  # fmt: skip


# --- faults and the service


def chaos(result: Result) -> Iterator[Row]:
    runs, undisturbed = result["runs"], result["undisturbed"]
    kills = sum((Counter(run["kills"]) for run in runs), Counter[str]())
    jobs = [(name, job) for run in runs for name, job in run["jobs"].items()]
    total = {name: sum(job[name] for _, job in jobs) for name in ("interrupted", "trained", "trained_twice", "failed")}
    why = " (where a machine or worker hung until it was given up; they count once)" if "hung machine" in kills else ""
    whose = "of the store " if {"locked store", "suspended server"} & set(kills) else ""
    same = sum(job["best"] == undisturbed[name]["best"] for name, job in jobs)
    yield Row(
        COST, f"{kills.total()} faults {whose}while two searches run, {many(len(runs), 'run')}",
        f"the best of an undisturbed search in {same} of {len(jobs)}; {total['interrupted']} of {total['trained']:,} "
        f"trainings cut short and begun again, {total['trained_twice']} finished twice{why}, {total['failed']} failed",
        f"{', '.join(f'{count} × {kind}' for kind, count in kills.most_common())}; 8 sleeping slots, "
        f"{sum(run['wall_seconds'] for run in runs):.0f} s", "python benchmarks/faults/chaos.py",
    )  # fmt: skip


def drain(result: Result) -> Iterator[Row]:
    told, killed = result["sigterm"], result["sigkill"]
    same = all(run["same_answer"] for run in (told, killed))
    yield Row(
        COST, f"{told['told']} workers told to end in turn, against as many that are killed",
        f"{told['lost_seconds']:.1f} s of training lost, {killed['lost_seconds']:.1f} s if killed: "
        f"{100 * result['ratio']:.1f} %; {told['failed'] + killed['failed']} failed, "
        f"{'the answers of undisturbed trainings' if same else 'other answers than undisturbed trainings'}",
        f"sleeping trainings of {result['training_seconds']:g} s that save every {result['save_seconds']:g} s, 4 slots",
        "python benchmarks/faults/drain.py",
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
    yield Row(
        COST, "Many short jobs, one after the other",
        f"memory at the beginning, the middle and the end: {sizes}; answers (median): {times}",
        f"{result['jobs']:,} jobs of four trials in {result['wall_seconds']:.0f} s, 20 at a time; 2 slots",
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
