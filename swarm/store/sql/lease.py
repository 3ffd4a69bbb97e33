"""The lease that only one master has; part of :class:`~swarm.store.Store`."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import sqlalchemy as sa

from swarm.errors import LeaseLost
from swarm.store.sql import tables
from swarm.store.sql.database import Database, date_ends

_lease = tables.lease
_LAG_SECONDS = 1.0  # between two looks at a clock
_log = logging.getLogger("swarm.store")


class Lease(Database):
    """Who may write what the service has in its store."""

    _seen: tuple[tuple[Any, ...], float] | None = None  # another's lease, and since when it has not changed

    def lease(self, holder: str, seconds: float) -> bool:
        """Take or renew the lease that only one master has; whether we have it now.

        From the first time on, every write of this store is refused when another holder has taken the lease since:
        the token, which each new holder increments, is compared in the transaction that writes.

        Another's lease is over when the database's clock says so. It is over as well when nobody has renewed it for as
        long as it was given for, by the clock of whoever asks again and again: the other clock may have been ahead.

        Args:
            holder: Name of this process; a lease of its own is renewed.
            seconds: How long it is ours, by the clock of the database.
        """
        with self._failing_clearly(), self._engine.begin() as connection, self._reading_right():
            if connection.dialect.name == "postgresql":  # who is suspended here must not lock others out for ever
                limit = math.ceil(1000 * max(seconds, _LAG_SECONDS))
                connection.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = {limit}"))
            # The first statement of a table writes, so that two who try at once do so one after the other.
            values = {"holder": "", "token": 0, "expires": 0.0, "seconds": seconds}
            connection.execute(self._insert_once(_lease), {"name": "master", **values})
            connection.execute(_lease.update().values(name="master"))
            row, now = connection.execute(sa.select(_lease)).one(), self._now(connection)
            ours = row.holder == holder and row.token == (self._token or row.token)
            if not ours and not self._is_over(row, now, seconds):
                return False
            token = row.token if ours else row.token + 1
            connection.execute(
                _lease.update().values(holder=holder, token=token, expires=now + seconds, seconds=seconds)
            )
            if not ours:
                date_ends(connection)  # of jobs that an earlier version has ended
                for index in tables.submissions.indexes:  # one may be newer than the store
                    index.create(connection, checkfirst=True)
        self._token, self._seen = token, None
        return True

    def lease_holder(self) -> str | None:
        """Who holds the lease now; None if nobody does."""
        with self._reading() as connection:
            row = connection.execute(sa.select(_lease)).one_or_none()
            now = self._now(connection)
            if row is None or row.expires <= now:
                return None
            # Whoever is alive renews it every now and then, by the clock as it is now.
            ahead = row.seconds is not None and row.expires > now + row.seconds + _LAG_SECONDS
            return None if ahead else str(row.holder)

    @property
    def term(self) -> int:
        """Number of the lease that this process has or had; 0 if it never had one."""
        return self._token or 0

    def outrank(self, term: int) -> None:
        """See that our :attr:`term` is no lower than this one, which somebody has seen.

        It is lower in a store that was restored from a backup: the masters since have been of higher terms.

        Raises:
            LeaseLost: Another master has taken the lease.
        """
        if self._token is None or self._token >= term:
            return
        ours = _lease.update().where(_lease.c.token == self._token)
        with self._failing_clearly(), self._engine.begin() as connection:
            if connection.execute(ours.values(token=term)).rowcount != 1:
                raise LeaseLost(f"another master has taken over the store {self.url}")
        _log.warning(
            "term %d is behind term %d, which the scheduler has seen: was the store %s restored from a backup? "
            "Going on with term %d",
            *(self._token, term, self.url, term),
        )
        self._token = term

    def give_up_lease(self) -> None:
        """Let another master take over at once."""
        if self._token is not None:
            with self._failing_clearly(), self._engine.begin() as connection:
                connection.execute(_lease.update().where(_lease.c.token == self._token).values(expires=0.0))

    def _is_over(self, row: sa.Row[Any], now: float, seconds: float) -> bool:
        """Whether another's lease is over, as far as we can tell by now."""
        if row.expires <= now:
            return True
        state, moment = (row.holder, row.token, row.expires), time.monotonic()
        if self._seen is None or self._seen[0] != state:
            self._seen = state, moment
        length = seconds if row.seconds is None else row.seconds
        if moment - self._seen[1] < length:
            return False
        _log.warning(
            "the lease of master %s is to end in %.0f s only, but it was given for %g s and nobody has renewed it for "
            "so long: a clock was wrong; taking over",
            *(row.holder, row.expires - now, length),
        )
        return True
