"""A master that stands by tells the scheduler so, which says it in the health of the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = 10.0  # where no scheduler answers, or an earlier one, which does not care
_log = logging.getLogger("swarm.master")


async def keep_standing_by(scheduler: Callable[[], str], name: str) -> None:
    """Tell the scheduler every second that a master stands by, until cancelled; what goes wrong is only said.

    Args:
        scheduler: Returns the scheduler's address; called before each attempt to connect.
        name: Name of the master, as in the store's lease.
    """
    said = ""
    while True:
        try:
            await _stand_by(scheduler(), name)
        except Exception as error:  # the store alone decides who takes office
            if str(error) != said:
                said = str(error)
                _log.info("the scheduler is not told that this master stands by: %s", said or type(error).__name__)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _stand_by(address: str, name: str) -> None:
    """Tell it for as long as the scheduler listens; return at once if it is of an earlier version."""
    from distributed import Security
    from distributed.core import connect, send_recv

    async with asyncio.timeout(_ANSWER_SECONDS):
        line = await connect(address, timeout=_ANSWER_SECONDS, **Security().get_connection_args("client"))
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            hello = await send_recv(line, op="swarm_hello")
        while hello is not None and "standbys" in hello.get("health", {}):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await send_recv(line, op="swarm_stand_by", name=name)
            await asyncio.sleep(_BEAT_SECONDS)
    finally:
        line.abort()
