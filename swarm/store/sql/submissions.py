"""What the service knows of its jobs: those that go on, and by the page those that have ended; part of
:class:`~swarm.store.Store`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from swarm.errors import StoreDamaged
from swarm.store.records import State, StoredJob, Submission
from swarm.store.sql import rows, tables
from swarm.store.sql.database import OnDamage, plain
from swarm.store.sql.jobs import WITHOUT_CODE, Jobs
from swarm.store.sql.remedies import job_damaged

_jobs, _submissions, _users, _replays = tables.jobs, tables.submissions, tables.users, tables.replays
_TOGETHER = _jobs.c.name == _submissions.c.job
_GOING_ON = _submissions.c.ended.is_(None) & _submissions.c.state.not_in([each.value for each in State if each.ended])
_COUNT = sa.select(sa.func.count()).select_from(_submissions).where(_submissions.c.job.in_(sa.select(_jobs.c.name)))
_PREFIX = "job_"


class Submissions(Jobs):
    """What was submitted to the service."""

    def submit(self, submission: Submission, spec: dict[str, Any], problem: bytes) -> None:
        """Write a new job together with its submission.

        Raises:
            JobConflict: The name is taken.
        """
        self._insert_job(submission.job, spec, problem, submission)

    def submissions(self, *, active: bool = False, on_damage: OnDamage | None = None) -> list[Submission]:
        """The submissions, oldest first.

        Args:
            active: Only those of jobs that have not ended: however many have, that takes no longer.
            on_damage: Told of each job whose row is damaged, by name, while the others are listed.

        Raises:
            StoreDamaged: A row is damaged, and nobody is to be told.
        """
        query = sa.select(_submissions).join(_jobs, _TOGETHER).order_by(_jobs.c.created, _jobs.c.name)
        with self._reading() as connection:
            found = connection.execute(query.where(_GOING_ON)).all() if active else self._all(connection, query, _COUNT)
        return self._undamaged(found, self._submission, on_damage)

    def submission(self, job: str) -> Submission | None:
        """The submission of a job; None if the job was not submitted.

        Raises:
            StoreDamaged: Its row is not what was written.
        """
        with self._reading() as connection:
            row = connection.execute(sa.select(_submissions).where(_submissions.c.job == job)).one_or_none()
        return None if row is None else self._submission(row)

    def set_submission(self, submission: Submission) -> None:
        """Replace a submission; if the job has ended, note when."""
        ended = (submission.ended or time.time()) if submission.state.ended else None
        row = rows.submission_row(replace(submission, ended=ended))
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_submissions.delete().where(_submissions.c.job == submission.job))
            connection.execute(_submissions.insert(), row)
            if submission.state.ended:  # nobody takes it up again soon
                snapshots = tables.snapshots
                connection.execute(snapshots.delete().where(snapshots.c.job == submission.job))

    def ended(
        self,
        limit: int,
        after: tuple[float, str] | None = None,
        *,
        states: Collection[State] = (),
        on_damage: OnDamage | None = None,
    ) -> list[tuple[StoredJob, Submission]]:
        """A page of the jobs that have ended, the latest first.

        Args:
            limit: How many at most.
            after: When the last one of the page before has ended, and its name (:attr:`Submission.ended`, ``job``).
            states: Only those that have ended so; all if there are none.
            on_damage: As for :meth:`submissions`.
        """
        ended, name = _submissions.c.ended, _submissions.c.job
        jobs = [column.label(_PREFIX + column.name) for column in WITHOUT_CODE]
        query = sa.select(_submissions, *jobs).join(_jobs, _TOGETHER).where(ended.is_not(None))
        if after is not None:
            when, last = after
            query = query.where((ended < when) | ((ended == when) & (name < last)))
        if states:
            query = query.where(_submissions.c.state.in_([State(each).value for each in states]))
        with self._reading() as connection:
            found = connection.execute(query.order_by(ended.desc(), name.desc()).limit(limit)).all()
        return self._undamaged(found, self._both, on_damage)

    def counts(self) -> Counter[State]:
        """How many jobs are in each state.

        Raises:
            StoreDamaged: A job is in none.
        """
        query = sa.select(_submissions.c.state, sa.func.count()).group_by(_submissions.c.state)
        with self._reading() as connection:
            return Counter({State(state): int(number) for state, number in connection.execute(query)})

    def expired(self, before: float, limit: int) -> list[tuple[str, float]]:
        """The jobs that have ended before this moment (seconds since the epoch), and when, the oldest first."""
        ended, name = _submissions.c.ended, _submissions.c.job
        with self._reading() as connection:
            query = sa.select(name, ended).where(ended.is_not(None), ended < before).order_by(ended, name).limit(limit)
            return [(str(job), float(when)) for job, when in connection.execute(query)]

    # --- users, and replays

    def weights(self) -> dict[str, float]:
        """The weights of the users whose weight is not 1, by name."""
        with self._reading() as connection:
            found = connection.execute(sa.select(_users.c.name, _users.c.weight).order_by(_users.c.name))
            return {str(name): float(weight) for name, weight in found}

    def set_weight(self, user: str, weight: float) -> None:
        """Note the weight of a user; 1 is that of a user of whom nothing is noted."""
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_users.delete().where(_users.c.name == user))
            if weight != 1.0:
                connection.execute(_users.insert(), {"name": user, "weight": weight})

    def begin_replay(self, job: str) -> int:
        """Note that a replay of a job begins; how many were begun since the last that ended, this one included.

        A job that takes its master down while it is replayed must not do so for ever.
        """
        with self._failing_clearly(), self._writing() as connection, self._reading_right():
            query = sa.select(_replays.c.begun).where(_replays.c.job == job)
            begun = int(connection.execute(query).scalar_one_or_none() or 0) + 1
            connection.execute(_replays.delete().where(_replays.c.job == job))
            connection.execute(_replays.insert(), {"job": job, "begun": begun})
        return begun

    def end_replay(self, job: str) -> None:
        """Note that the replay of a job has ended, well or not, and the master is still there."""
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_replays.delete().where(_replays.c.job == job))

    # --- inside

    def _submission(self, row: Any) -> Submission:
        try:
            return rows.submission_of(plain(row))
        except StoreDamaged as error:
            raise job_damaged(self.url, row.job, "the submission", error) from error

    def _both(self, row: Any) -> tuple[StoredJob, Submission]:
        submission = self._submission(row)
        job = {name.removeprefix(_PREFIX): value for name, value in plain(row).items() if name.startswith(_PREFIX)}
        try:
            return rows.stored_job(job), submission
        except StoreDamaged as error:
            raise job_damaged(self.url, row.job, "the row", error) from error
