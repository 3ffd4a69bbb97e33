"""The archive of a store: what was trained, and is not trained again; part of :class:`~swarm.store.Store`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from swarm.errors import StoreDamaged
from swarm.plain import params_from_json
from swarm.store.sql import rows, tables
from swarm.store.sql.database import Database, batched, plain
from swarm.store.sql.remedies import result_damaged
from swarm.trial import Result, Status

_archive = tables.archive
_IS_FAILURE = _archive.c.result.like('%"status": "failed"%')  # no text within can have such quotes
_BYTES = sa.func.length(_archive.c.result) + sa.func.length(_archive.c.params)
_ONE = sa.select(_archive).where(_archive.c.key == sa.bindparam("wanted"))
_SOME = sa.select(_archive).where(_archive.c.key.in_(sa.bindparam("some", expanding=True)))


class Archive(Database):
    """Results by the keys of their evaluations."""

    def result(self, key: str) -> Result | None:
        """The archived result of that evaluation key, whichever job trained it.

        Raises:
            StoreDamaged: It is not what was written.
        """
        with self._reading() as connection:
            row = connection.execute(_ONE, {"wanted": key}).one_or_none()
        return None if row is None else self._result(row)

    def answer(self, key: str) -> Result | None:
        """The archived result if it answers whoever asks; an earlier version kept failures that do not.

        Raises:
            StoreDamaged: It is not what was written.
        """
        result = self.result(key)
        return result if result is not None and result.answers_others else None

    def answers(self, keys: Sequence[str]) -> dict[str, Result]:
        """Those archived results of these keys that answer whoever asks, by key.

        Raises:
            StoreDamaged: One is not what was written.
        """
        with self._reading() as connection:
            found = [connection.execute(_ONE, {"wanted": key}).one_or_none() for key in keys]
        results = (self._result(row) for row in found if row is not None)
        return {result.key: result for result in results if result.answers_others}

    def durations(self, problem: str, limit: int) -> list[tuple[dict[str, Any], float | None, float]]:
        """Parameters, budget and seconds of the latest successful trainings of a problem, at most ``limit``.

        They only help to guess how long others take: damaged ones are left out.
        """
        query = sa.select(_archive).where(_archive.c.problem == problem)
        with self._reading() as connection:
            found = connection.execute(query.order_by(_archive.c.created.desc()).limit(limit)).all()
            known = [(row, result) for row in found if (result := self._or_none(row)) is not None]
            succeeded = [(row, result.seconds) for row, result in known if result.status is Status.OK]
            return [(params_from_json(json.loads(row.params)), row.budget, seconds) for row, seconds in succeeded]

    def holdings(self) -> list[tuple[str, int, int, int]]:
        """What the archive holds, by problem: its fingerprint, results, failures among them, bytes."""
        failed = sa.func.sum(sa.case((_IS_FAILURE, 1), else_=0))
        query = sa.select(_archive.c.problem, sa.func.count(), failed, sa.func.sum(_BYTES))
        query = query.group_by(_archive.c.problem).order_by(_archive.c.problem)
        with self._reading(long=True) as connection:
            return [(name, int(all_), int(bad), int(size)) for name, all_, bad, size in connection.execute(query)]

    def archived(
        self,
        *,
        job: str | None = None,
        problems: Collection[str] | None = None,
        failures: bool = False,
        damaged: bool = False,
    ) -> list[tuple[str, str, bool, int]]:
        """Archived results: key, the job that trained it, whether it is a failure, bytes.

        Args:
            job: Those that this job trained; None takes every job's.
            problems: Those of these problems, by fingerprint; None takes every problem's.
            failures: Failures only.
            damaged: Only those that are not what was written.
        """
        query = sa.select(_archive, _IS_FAILURE.label("bad"), _BYTES.label("size")).order_by(_archive.c.key)
        if not damaged:
            query = query.with_only_columns(
                _archive.c.key, _archive.c.job, _IS_FAILURE.label("bad"), _BYTES.label("size")
            )
        if job is not None:
            query = query.where(_archive.c.job == job)
        if problems is not None:
            query = query.where(_archive.c.problem.in_(list(problems)))
        if failures:
            query = query.where(_IS_FAILURE)
        with (
            self._reading(long=True) as connection,
            connection.execution_options(yield_per=1000).execute(query) as found,
        ):
            chosen = (row for row in found if not damaged or self._or_none(row) is None)
            return [(row.key, row.job, bool(row.bad), int(row.size or 0)) for row in chosen]

    def forget(self, keys: Sequence[str]) -> None:
        """Delete archived results, which answer nobody from now on."""
        with self._failing_clearly(), self._writing(long=True) as connection:
            delete_results(connection, keys)

    # --- inside

    def _result(self, row: Any) -> Result:
        try:
            return rows.result_of(plain(row))
        except StoreDamaged as error:
            raise result_damaged(self.url, row.key, row.job, error) from error

    @staticmethod
    def _or_none(row: Any) -> Result | None:
        """The result of a row; None of a damaged one."""
        try:
            return rows.result_of(plain(row))
        except StoreDamaged:
            return None

    def _drop(self, connection: sa.Connection, keys: Sequence[str], doomed: Callable[[Result], bool]) -> None:
        """Delete archived results of which this is true; an earlier version kept failures that answer nobody.

        What is damaged goes, too: it answers nobody.
        """
        for some in batched(keys):
            found = [(row.key, self._or_none(row)) for row in connection.execute(_SOME, {"some": some})]
            delete_results(connection, [key for key, result in found if result is None or doomed(result)])


def delete_results(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Delete archived results by their keys."""
    for some in batched(keys):
        connection.execute(_archive.delete().where(_archive.c.key.in_(some)))
