"""Requests that the pages pass to the master for users who have given the token, ``swarm.dashboard-token``.

Without a token they only show. The token comes over the websocket of the page, and is neither kept there nor logged.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from swarm.service.protocol import MASTER

_METHODS = frozenset({"pause", "resume", "cancel", "share"})
_PAUSE = 1.0  # seconds after a wrong token in which no other is looked at
_log = logging.getLogger("swarm.scheduler")


class PageDesk:
    """Takes what pages ask for.

    Args:
        ask: Has the master do something for a user: method, JSON and user; its answer.
        token: What users have to know; None lets the pages only show.
        user: Whose rights they have then; None is an administrator's.
    """

    def __init__(
        self, ask: Callable[[str, str, str], Awaitable[dict[str, Any]]], token: str | None, user: str | None
    ) -> None:
        self._ask, self._token, self._user = ask, token, user or MASTER
        self._wrong = float("-inf")

    @property
    def open(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def admits(self, token: str) -> bool:
        """Whether this is the token: compared in constant time, and not more than once a second after a wrong one."""
        if self._token is None or time.monotonic() - self._wrong < _PAUSE:
            return False
        if hmac.compare_digest(_bytes(token), _bytes(self._token)):
            return True
        self._wrong = time.monotonic()
        _log.warning("a page was given a wrong token")
        return False

    async def steer(self, method: str, name: str, **changes: Any) -> str | None:
        """Have the master do something to a job; why it did not, or None."""
        if method not in _METHODS:
            return f"a page may not ask for {method[:40]!r}"
        _log.info("a page asks to %s job %s", method, name)
        answer = await self._ask(method, json.dumps({"name": name, **changes}), self._user)
        return str(answer["error"][1]) if "error" in answer else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
