"""Waiting for a store that is locked, or whose server does not answer, and saying so."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from swarm.errors import StoreAway, StoreUnavailable

_LONGEST_PAUSE = 5.0  # seconds between attempts
_log = logging.getLogger("swarm.store")
T = TypeVar("T")


def patiently(work: Callable[[], T], seconds: float) -> T:
    """Do what needs the store; wait at most so long for one that is away.

    Args:
        work: What is done, again with each attempt.
        seconds: How long.

    Raises:
        StoreAway: It was away for longer.
    """
    for attempt in Retrying(**_manner(seconds)):
        with attempt:
            done = work()
    return done


async def patiently_awaited(
    work: Callable[[], Awaitable[T]], seconds: float, error: type[StoreUnavailable] = StoreAway
) -> T:
    """The same within an event loop, where other things go on while it waits.

    Args:
        work: What is done, again with each attempt.
        seconds: How long; infinity waits as long as it takes.
        error: What is waited out.
    """
    async for attempt in AsyncRetrying(**_manner(seconds, error)):
        with attempt:
            done = await work()
    return done


def _manner(seconds: float, error: type[StoreUnavailable] = StoreAway) -> dict[str, Any]:
    limit = f", at most {seconds:g} s" if math.isfinite(seconds) else ""

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            _log.warning("%s; waiting for it%s", state.outcome.exception(), limit)

    return {
        "retry": retry_if_exception_type(error),
        "wait": wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
        "stop": stop_after_delay(seconds),
        "before_sleep": say,
        "reraise": True,
    }
