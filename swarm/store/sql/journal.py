"""The journals of a store; part of :class:`~swarm.store.Store`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from swarm.errors import JobConflict, StoreDamaged
from swarm.store.events import Event
from swarm.store.records import JobStatus, Snapshot
from swarm.store.sql import rows, tables
from swarm.store.sql.archive import Archive
from swarm.store.sql.remedies import job_remedy
from swarm.trial import Evaluation, Result, Status

_journal, _lengths, _snapshots = tables.journal, tables.lengths, tables.snapshots
_ADDED = _journal.insert()
_BEFORE = sa.select(_journal.c.seq).where(_journal.c.job == sa.bindparam("of"), _journal.c.seq == sa.bindparam("place"))
_LINE = _journal.c.seq, _journal.c.kind, _journal.c.data, _journal.c.time, _journal.c.crc


class Journal(Archive):
    """What happened to each search, in order."""

    def append(
        self, job: str, seq: int, events: Sequence[Event], results: Iterable[tuple[Evaluation, Result]] = ()
    ) -> None:
        """Append events to a job's journal, and results to the archive, in one transaction.

        Args:
            job: Name of the job.
            seq: Number of the first event: how many the journal holds already.
            events: What happened.
            results: Final results for the archive with what they are results of; where a key has one already that
                answers others, the first stays.

        Raises:
            JobConflict: The journal is longer than ``seq``: another process runs this job.
            StoreUnavailable: Nothing was written; the same call may be made again.
        """
        lines = rows.lines(job, seq, events)
        archived = [rows.archive_row(job, evaluation, result) for evaluation, result in results]
        with self._failing_clearly():
            try:
                with self._writing() as connection:
                    if lines:
                        connection.execute(_ADDED, lines)
                        self._check_whole(connection, job, seq)
                        self._note_length(connection, job, seq + len(lines))
                    if archived:
                        keys = [str(row["key"]) for row in archived]
                        self._drop(connection, keys, lambda result: not result.answers_others)
                        connection.execute(self._insert_once(tables.archive), archived)
            except sa.exc.IntegrityError:
                raise _busy(job) from None

    def cut(
        self, job: str, seq: int, events: Sequence[Event], *, forget: Collection[str] = (), lost: Collection[str] = ()
    ) -> None:
        """Replace a journal's end, and forget archived results, in one transaction; the job is stopped then.

        Args:
            job: Name of the job, which nobody runs.
            seq: Number of the first event that goes.
            events: What comes in its place.
            forget: Keys of evaluations whose failures are forgotten; what has succeeded since stays.
            lost: Keys of evaluations whose results are forgotten, whatever they are.
        """
        lines = rows.lines(job, seq, events)
        with self._failing_clearly(), self._writing(long=True) as connection:
            connection.execute(_journal.delete().where(_journal.c.job == job, _journal.c.seq >= seq))
            connection.execute(_snapshots.delete().where(_snapshots.c.job == job))
            if lines:
                connection.execute(_ADDED, lines)
            self._note_length(connection, job, seq + len(lines))
            self._drop(connection, sorted(forget), lambda result: result.status is not Status.OK)
            self._drop(connection, sorted(lost), lambda _: True)
            jobs = tables.jobs
            connection.execute(jobs.update().where(jobs.c.name == job).values(status=JobStatus.STOPPED))

    def extend(self, job: str, seq: int, events: Sequence[Event], spec: Mapping[str, Any]) -> None:
        """Append events to a journal with which its job has become another in its limits, in one transaction.

        Args:
            job: Name of the job, which nobody runs.
            seq: Number of the first event: how many the journal holds already.
            events: What happened; if anything, the job is stopped then.
            spec: The job as it is now (:meth:`swarm.Job.to_dict`).

        Raises:
            JobConflict: The journal is longer than ``seq``: another process runs this job.
        """
        lines, jobs = rows.lines(job, seq, events), tables.jobs
        wanted = jobs.c.name == job
        with self._failing_clearly(), self._writing() as connection:
            row = connection.execute(sa.select(jobs.c.name, jobs.c.created, jobs.c.code).where(wanted)).one()
            changed = rows.respecified(dict(row._mapping), spec)
            if lines:
                later = sa.select(_journal.c.seq).where(_journal.c.job == job, _journal.c.seq >= seq)
                if connection.execute(later).first() is not None:
                    raise _busy(job)
                connection.execute(_ADDED, lines)
                self._check_whole(connection, job, seq)
                self._note_length(connection, job, seq + len(lines))
                changed["status"] = JobStatus.STOPPED
            connection.execute(_snapshots.delete().where(_snapshots.c.job == job))
            connection.execute(jobs.update().where(wanted).values(**changed))

    def events(self, job: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The job's journal in order, read in pieces; on request from event ``after`` on, at most ``limit`` of them.

        Raises:
            StoreDamaged: A line of it is not what was written, or is missing.
        """
        query = sa.select(*_LINE).where(_journal.c.job == job, _journal.c.seq >= after)
        query = query.order_by(_journal.c.seq).limit(limit)
        length, expected = self.length(job), after
        with self._reading() as connection, connection.execution_options(yield_per=1000).execute(query) as found:
            for seq, kind, data, when, crc in found:
                try:
                    event = rows.event_of(job, seq, kind, data, when, crc)
                except StoreDamaged as error:
                    raise self._damaged(job, expected, str(error)) from error
                if seq != expected:
                    raise self._damaged(job, expected, "it is missing")
                yield event
                expected += 1
        wanted = length if limit is None else min(length, after + limit)
        if expected < wanted and expected < self.length(job):  # else somebody has cut it meanwhile
            raise self._damaged(job, expected, f"it is missing, and the journal had {length} rows")

    def asks_for(self, job: str, key: str) -> bool:
        """Whether a job's journal has asked for an evaluation, or for a training that goes on from it."""
        asked = _journal.c.kind == "asked", _journal.c.data.contains(key, autoescape=True)
        query = sa.select(_journal.c.seq).where(_journal.c.job == job, *asked).limit(1)
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def length(self, job: str) -> int:
        """How many events a job's journal has; 0 if it has none since an earlier version."""
        query = sa.select(_lengths.c.events).where(_lengths.c.job == job)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one_or_none() or 0)

    # --- snapshots of replays

    def prefix(self, job: str, events: int, after: int = 0, before: str = "") -> str | None:
        """A digest of the journal's first events, each of which is as it was written; None if they are not all there.

        Args:
            job: Name of the job.
            events: How many.
            after: How many of them are known already.
            before: Their digest.
        """
        query = sa.select(*_LINE).where(_journal.c.job == job, _journal.c.seq >= after, _journal.c.seq < events)
        found, expected = before, after
        with self._reading() as connection:
            for line in connection.execution_options(yield_per=1000).execute(query.order_by(_journal.c.seq)):
                digest = rows.chained(found, job, *line)
                if digest is None or line[0] != expected:
                    return None
                found, expected = digest, expected + 1
        return found if expected == events else None

    def snapshot(self, job: str) -> Snapshot | None:
        """The snapshot of a job's journal, as it is: whoever takes it sees whether it can be trusted."""
        query = sa.select(*(_snapshots.c[name] for name in Snapshot.__slots__)).where(_snapshots.c.job == job)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Snapshot(*row)

    def keep_snapshot(self, job: str, snapshot: Snapshot) -> None:
        """Replace the snapshot of a job's journal."""
        row = {name: getattr(snapshot, name) for name in Snapshot.__slots__}
        kept = self._insert(_snapshots).on_conflict_do_update(index_elements=["job"], set_=row)
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(kept, {"job": job, **row})

    def _damaged(self, job: str, seq: int, cause: str) -> StoreDamaged:
        return StoreDamaged(
            f"the journal of job {job!r} in {self.url} is damaged at row {seq}: {cause}. {job_remedy(self.url, job)}"
        )

    def _note_length(self, connection: sa.Connection, job: str, events: int) -> None:
        connection.execute(self._noted_length, {"job": job, "events": events})

    @cached_property
    def _noted_length(self) -> Any:
        new = self._insert(_lengths)
        return new.on_conflict_do_update(index_elements=["job"], set_={"events": new.excluded.events})

    @staticmethod
    def _check_whole(connection: sa.Connection, job: str, seq: int) -> None:
        """Refuse to leave a gap in a journal that somebody else has cut meanwhile."""
        if seq > 0 and connection.execute(_BEFORE, {"of": job, "place": seq - 1}).first() is None:
            raise _busy(job)


def _busy(job: str) -> JobConflict:
    return JobConflict(f"job {job!r} is being run by another process; wait for it, or stop it and resume")
