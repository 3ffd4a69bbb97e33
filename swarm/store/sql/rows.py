"""Rows as they are written and read back: each with a checksum over all that must not change by itself."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from swarm.errors import StoreDamaged
from swarm.plain import canonical
from swarm.store.code_table import digest_of
from swarm.store.events import Event, read_event
from swarm.store.records import JobStatus, State, StoredJob, Submission
from swarm.store.sql import tables
from swarm.trial import Evaluation, Result

_SEALED = {  # what the checksum of a row covers, in this order; a job's status is noted again and again
    tables.jobs: ("name", "spec", "created", "code"),
    tables.archive: ("key", "problem", "params", "budget", "job", "created", "result"),
    tables.submissions: (*("job", "owner", "priority", "most", "state", "reason", "environment", "summary", "ended"),),
}
WRONG = "it is not what was written (its checksum differs)"


def sealed(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its checksum."""
    return {**row, "crc": _crc(table, row)}


def check_seal(table: sa.Table, row: Mapping[str, Any]) -> None:
    """See that a row is as it was written, if it has a checksum.

    Raises:
        StoreDamaged: It is not.
    """
    try:
        sound = row["crc"] is None or row["crc"] == _crc(table, row)
    except (TypeError, ValueError):  # a number is none
        sound = False
    if not sound:
        raise StoreDamaged(WRONG)


def _crc(table: sa.Table, row: Mapping[str, Any]) -> int:
    parts = (_plain(table.c[name].type, row[name]) for name in _SEALED[table])
    return zlib.crc32("\0".join(parts).encode("utf-8", "surrogatepass"))


def _plain(kind: sa.types.TypeEngine[Any], value: Any) -> str:
    """A value as the text that it is after any database has had it."""
    if value is None:
        return "null"
    return repr(float(value) + 0.0) if isinstance(kind, sa.Double) else str(value)  # SQLite knows no -0.0


# --- journals


def lines(job: str, seq: int, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Rows of a journal."""
    return [_line(job, seq + place, event) for place, event in enumerate(events)]


def _line(job: str, seq: int, event: Event) -> dict[str, Any]:
    data, time, kind = json.dumps(event.data, allow_nan=False), float(event.time) + 0.0, event.kind
    crc = line_crc(job, seq, kind, data, time)
    return {"job": job, "seq": seq, "time": time, "kind": kind, "data": data, "crc": crc}


def line_crc(job: str, seq: int, kind: str, data: str, time: float) -> int:
    """The checksum of a row of a journal; apart from the others, since a replay reads hundreds of thousands."""
    return zlib.crc32(_written(job, seq, kind, data, time))


def _written(job: str, seq: int, kind: str, data: str, time: float) -> bytes:
    return f"{job}\0{seq}\0{kind}\0{time!r}\0{data}".encode("utf-8", "surrogatepass")


def chained(before: str, job: str, seq: int, kind: str, data: str, time: float, crc: int | None) -> str | None:
    """The digest of a journal up to this row, with that of all before it; None if the row is not what was written."""
    written = _written(job, seq, kind, data, time)
    if crc is not None and crc != zlib.crc32(written):
        return None
    return hashlib.sha256(before.encode() + written).hexdigest()


def event_of(job: str, seq: int, kind: str, data: str, time: float, crc: int | None) -> Event:
    """The event of a row of a journal.

    Raises:
        StoreDamaged: It is not what was written.
    """
    if crc is not None and crc != line_crc(job, seq, kind, data, time):
        raise StoreDamaged(WRONG)
    try:
        return read_event(kind, json.loads(data), float(time))
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"it cannot be read: {error}") from error


# --- jobs and submissions


def job_row(name: str, spec: Mapping[str, Any], created: float, problem: bytes) -> dict[str, Any]:
    """Row of a new job with this code."""
    row = {"name": name, "spec": json.dumps(spec), "problem": b"", "created": created, "status": JobStatus.NEW}
    return sealed(tables.jobs, {**row, "code": digest_of(problem) if problem else None})


def respecified(row: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a job's row that change with what the job is."""
    changed = {"spec": json.dumps(spec)}
    return {**changed, "crc": _crc(tables.jobs, {**row, **changed})}


def stored_job(row: Mapping[str, Any]) -> StoredJob:
    """The job of a row.

    Raises:
        StoreDamaged: It is not what was written.
    """
    check_seal(tables.jobs, row)
    try:
        return StoredJob(row["name"], _mapping(row["spec"]), float(row["created"]), JobStatus(row["status"]))
    except (ValueError, TypeError) as error:
        raise StoreDamaged(f"it cannot be read: {error}") from error


def submission_row(submission: Submission) -> dict[str, Any]:
    """Row of a submission."""
    texts = {"environment": json.dumps(submission.environment), "summary": json.dumps(submission.summary)}
    return sealed(tables.submissions, {**asdict(submission), "state": submission.state.value, **texts})


def submission_of(row: Mapping[str, Any]) -> Submission:
    """The submission of a row.

    Raises:
        StoreDamaged: It is not what was written.
    """
    check_seal(tables.submissions, row)
    try:
        environment, summary = tuple(json.loads(row["environment"])), json.loads(row["summary"] or "null")
        known = {name: row[name] for name in ("job", "owner", "priority", "most", "reason", "ended")}
        return Submission(**known, state=State(row["state"]), environment=environment, summary=summary)
    except (ValueError, TypeError) as error:
        raise StoreDamaged(f"it cannot be read: {error}") from error


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"a mapping was written, not {type(found).__name__}")
    return found


# --- the archive


def archive_row(job: str, evaluation: Evaluation, result: Result) -> dict[str, Any]:
    """Row of an archived result."""
    row = {
        "key": result.key,
        "problem": evaluation.problem,
        "params": canonical(evaluation.params),
        "budget": evaluation.budget,
        "job": job,
        "created": result.end,
        "result": json.dumps(result.to_dict(), allow_nan=False),
    }
    return sealed(tables.archive, row)


def result_of(row: Mapping[str, Any]) -> Result:
    """The archived result of a row.

    Raises:
        StoreDamaged: It is not what was written.
    """
    check_seal(tables.archive, row)
    try:
        return Result.from_dict(_mapping(row["result"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreDamaged(f"it cannot be read: {type(error).__name__}: {error}") from error
