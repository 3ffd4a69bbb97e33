"""The jobs of a store and their code; part of :class:`~swarm.store.Store`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from swarm.errors import InvalidInput, JobConflict, JobNotFound, StoreDamaged
from swarm.store import code_table
from swarm.store.records import JobStatus, Note, StoredJob, Submission
from swarm.store.sql import rows, tables
from swarm.store.sql.archive import delete_results
from swarm.store.sql.database import Database, OnDamage, plain
from swarm.store.sql.remedies import job_damaged

_jobs, _notes = tables.jobs, tables.notes
LONGEST_NOTE = 2000
"""Characters of a note."""
WITHOUT_CODE = _jobs.c.name, _jobs.c.spec, _jobs.c.created, _jobs.c.status, _jobs.c.code, _jobs.c.crc
_ALL = sa.select(*WITHOUT_CODE)
_ONE = _ALL.where(_jobs.c.name == sa.bindparam("wanted"))


class Jobs(Database):
    """What is searched, and how far it is."""

    def add_job(self, name: str, spec: dict[str, Any], problem: bytes) -> None:
        """Write a new job.

        Raises:
            JobConflict: The name is taken.
        """
        self._insert_job(name, spec, problem, None)

    def has_job(self, name: str) -> bool:
        """Whether there is a job of that name, however damaged."""
        with self._reading() as connection:
            found = connection.execute(sa.select(_jobs.c.name).where(_jobs.c.name == name)).first()
        return found is not None

    def job(self, name: str) -> StoredJob:
        """The job of that name.

        Raises:
            JobNotFound: There is none.
            StoreDamaged: Its row is not what was written.
        """
        with self._reading() as connection:
            row = connection.execute(_ONE, {"wanted": name}).one_or_none()
        if row is None:
            raise self._not_found(name)
        return self._stored(row)

    def jobs(self, on_damage: OnDamage | None = None) -> list[StoredJob]:
        """All jobs, oldest first.

        Args:
            on_damage: Told of each job whose row is damaged, by name, while the others are listed.

        Raises:
            StoreDamaged: A row is damaged, and nobody is to be told.
        """
        with self._reading() as connection:
            found = self._all(connection, _ALL, sa.select(sa.func.count()).select_from(_jobs))
        known = self._undamaged(found, self._stored, on_damage)
        return sorted(known, key=lambda job: (job.created, job.name))

    def names(self, begin: str) -> set[str]:
        """Names of the jobs whose names begin so."""
        query = sa.select(_jobs.c.name).where(_jobs.c.name.startswith(begin, autoescape=True))
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def specs(self, on_damage: OnDamage | None = None) -> dict[str, dict[str, Any]]:
        """What every job searches and how, by its name, oldest first; without their code. As for :meth:`jobs`."""
        return {job.name: job.spec for job in self.jobs(on_damage)}

    def status(self, name: str) -> JobStatus | None:
        """How far a job is, as in :class:`StoredJob`; None if there is none of that name."""
        query = sa.select(_jobs.c.status).where(_jobs.c.name == name)
        with self._reading() as connection:
            status = connection.execute(query).scalar_one_or_none()
            return None if status is None else JobStatus(status)

    def set_status(self, name: str, status: JobStatus) -> None:
        """Note how far the job is."""
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_jobs.update().where(_jobs.c.name == name).values(status=JobStatus(status)))

    # --- notes

    def notes(self, job: str | None = None) -> list[Note]:
        """What people wrote on the trials of a job, or of all jobs; beside the journal, which knows nothing of it."""
        query = sa.select(_notes.c.job, _notes.c.trial, _notes.c.key, _notes.c.text)
        query = query.order_by(_notes.c.job, _notes.c.trial)
        with self._reading() as connection:
            if not sa.inspect(connection).has_table(_notes.name):  # nobody has written any since an earlier version
                return []
            rows = connection.execute(query if job is None else query.where(_notes.c.job == job)).all()
            return [Note(str(row.job), int(row.trial), str(row.key), str(row.text)) for row in rows]

    def write_note(self, note: Note) -> None:
        """Write a note, in place of the one that the trial had; an empty one takes that away.

        Raises:
            InvalidInput: It is too long.
            StoreUnavailable: The store cannot be written.
        """
        if len(note.text) > LONGEST_NOTE:
            raise InvalidInput(f"a note has up to {LONGEST_NOTE} characters, not {len(note.text)}: shorten it")
        row = {"job": note.job, "trial": note.trial, "key": note.key, "text": _plain_text(note.text)}
        with self._failing_clearly():
            _notes.create(self._engine, checkfirst=True)
            with self._writing() as connection:
                mine = _notes.c.job == note.job, _notes.c.trial == note.trial
                connection.execute(_notes.delete().where(*mine))
                if row["text"]:
                    connection.execute(_notes.insert(), row)

    # --- code

    def code(self, name: str) -> bytes:
        """The pickled problem of a job, which nothing else reads.

        Raises:
            JobNotFound: There is no such job.
            StoreDamaged: It is not what was written.
        """
        digest = self.digest(name)
        if digest is not None:
            return self.content(digest)
        query = sa.select(_jobs.c.problem).where(_jobs.c.name == name)  # where earlier versions have written it
        with self._reading() as connection:
            code = connection.execute(query).scalar_one_or_none()
            if code is not None:
                return bytes(code)
        raise self._not_found(name)

    def digest(self, name: str) -> str | None:
        """What is equal for jobs of one :meth:`code`; None where that is not known without reading it."""
        with self._reading() as connection:
            known = code_table.digest(connection, name)
            if known is None:
                known = connection.execute(sa.select(_jobs.c.code).where(_jobs.c.name == name)).scalar_one_or_none()
            return known

    def content(self, digest: str) -> bytes:
        """The code of that :meth:`digest`.

        Raises:
            JobNotFound: No job has it any more.
            StoreDamaged: It is not what was written.
        """
        with self._reading() as connection:
            code = code_table.read(connection, digest)
            owner = None if code is None else code_table.owner(connection, digest)
        if code is None:
            raise JobNotFound(f"the store {self.url} has no code {digest[:12]} any more: its jobs were deleted")
        if code_table.digest_of(code) != digest:
            raise job_damaged(self.url, owner, "the code", rows.WRONG)
        return code

    def delete_job(self, name: str, forget: Sequence[str] = (), *, ended: float | None = None) -> bool:
        """Delete a job, which nobody runs: its journal, its submission, its code if no other job needs it.

        Args:
            name: Name of the job.
            forget: Keys of the archived results to delete with it.
            ended: Delete it only if this is when it ended, so that nobody has gone on with it since.

        Returns:
            Whether it was deleted.
        """
        with self._failing_clearly(), self._writing(long=True) as connection:
            submission = tables.submissions.delete().where(tables.submissions.c.job == name)
            if ended is not None:
                submission = submission.where(tables.submissions.c.ended == ended)
            if connection.execute(submission).rowcount == 0 and ended is not None:
                return False
            noted = (_notes,) if sa.inspect(connection).has_table(_notes.name) else ()
            for table in (tables.journal, tables.lengths, tables.replays, tables.snapshots, *noted):
                connection.execute(table.delete().where(table.c.job == name))
            connection.execute(_jobs.delete().where(_jobs.c.name == name))
            delete_results(connection, forget)
            code_table.drop_of(connection, name)
        return True

    # --- inside

    def _insert_job(self, name: str, spec: dict[str, Any], problem: bytes, submission: Submission | None) -> None:
        row = rows.job_row(name, spec, time.time(), problem)
        with self._failing_clearly():
            try:
                with self._writing() as connection:
                    connection.execute(_jobs.insert(), row)
                    code_table.keep(connection, name, problem)
                    if submission is not None:
                        connection.execute(tables.submissions.insert(), rows.submission_row(submission))
            except sa.exc.IntegrityError:
                raise JobConflict(f"the store already has a job {name!r}; take another name") from None

    def _stored(self, row: Any) -> StoredJob:
        try:
            return rows.stored_job(plain(row))
        except StoreDamaged as error:
            raise job_damaged(self.url, row.name, "the row", error) from error

    def _not_found(self, name: str) -> JobNotFound:
        """The error for a name that no job has, with the names of the latest."""
        latest = sa.select(_jobs.c.name).order_by(_jobs.c.created.desc(), _jobs.c.name.desc()).limit(5)
        with self._reading() as connection:
            names = list(connection.execute(latest).scalars())[::-1]
            return JobNotFound(
                f"the store {self.url} has no job {name!r}; it has {', '.join(names) or 'no job at all'}"
            )


def _plain_text(text: str) -> str:
    """A note as any database takes it: valid text, whose lines end as lines do, without other control characters."""
    lines = text.encode("utf-8", "replace").decode().strip().splitlines()
    return "\n".join("".join(each for each in line if each.isprintable() or each == "\t") for line in lines)
