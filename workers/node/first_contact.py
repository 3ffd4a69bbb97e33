"""How long one who has never reached the scheduler goes on trying: its address may be wrong.

Once it was reached, one waits for it as long as it takes: it is being started again, or the network is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from swarm.errors import SchedulerUnreachable


class FirstContact:
    """Counts the seconds since the first attempt that failed, until one has succeeded.

    Args:
        seconds: Give up after this time; None never gives up.
        clock: Says what time it is, in seconds.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None

    def reached(self) -> None:
        """An attempt has succeeded: never give up from now on."""
        self._seconds = None

    def failed(self, reason: str) -> str:
        """An attempt has failed.

        Args:
            reason: Why, in one line.

        Returns:
            The reason.

        Raises:
            SchedulerUnreachable: That is so for too long.
        """
        if self._since is None:
            self._since = self._clock()
        if self._seconds is not None and self._clock() - self._since >= self._seconds:
            raise SchedulerUnreachable(
                f"{reason}; given up after {self._seconds:g} s: is the address right? "
                "(the setting swarm.first-contact-seconds: null tries for ever)"
            )
        return reason
