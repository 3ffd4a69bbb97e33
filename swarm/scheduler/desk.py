"""Requests that the pages pass to the master for users who have given the token, ``swarm.dashboard-token``.

Without a token they only show. The token comes over the websocket of the page, and is neither kept there nor logged.
What a training has left, and what people wrote, is shown without it as far as everybody may read the job.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from swarm.service.protocol import MASTER

_STEERING = frozenset({"pause", "resume", "cancel", "share"})
_READING = frozenset({"left", "notes"})
_PAUSE = 1.0  # seconds after a wrong token in which no other is looked at
_log = logging.getLogger("swarm.scheduler")


class PageDesk:
    """Takes what pages ask for.

    Args:
        ask: Asks the process that runs a job, for a user: method, JSON and user; gives the answer.
        token: What users have to know; None lets the pages only show.
        user: Whose rights they have then; None is an administrator's.
        public: Whether everybody may read a job, by its name.

    Attributes:
        own: Whether only the user whose run this is reaches the pages: notes then need no token.
    """

    def __init__(
        self,
        ask: Callable[[str, str, str], Awaitable[dict[str, Any]]],
        token: str | None,
        user: str | None,
        public: Callable[[str], bool] = lambda job: False,
    ) -> None:
        self._ask, self._token, self._user, self._public = ask, token, user or MASTER, public
        self._wrong = float("-inf")
        self.own = False

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

    def reads(self, job: str, admitted: bool) -> bool:
        """Whether a visitor may read what the trainings of a job have left, and the notes on its trials.

        Args:
            job: Name of the job.
            admitted: Whether he has given the token.
        """
        return admitted or self.own or self._public(job)

    def writes(self, admitted: bool) -> bool:
        """Whether a visitor may write notes."""
        return admitted or self.own

    async def steer(self, method: str, name: str, **changes: Any) -> str | None:
        """Have the master do something to a job; why it did not, or None."""
        if method not in _STEERING:
            return f"a page may not ask for {method[:40]!r}"
        _log.info("a page asks to %s job %s", method, name)
        answer = await self._ask(method, json.dumps({"name": name, **changes}), self._user)
        return str(answer["error"][1]) if "error" in answer else None

    async def look(self, method: str, name: str, admitted: bool, **more: Any) -> dict[str, Any]:
        """Ask about the trials of a job, or write a note on one.

        Args:
            method: ``left``, ``notes`` or ``note``.
            name: Name of the job.
            admitted: Whether the visitor has given the token.
            **more: What the request says besides.

        Returns:
            ``{"ok": JSON}``, or ``{"error": [class, text]}``.
        """
        allowed = self.reads(name, admitted) if method in _READING else method == "note" and self.writes(admitted)
        if not allowed:
            return {"error": ["NotAllowed", "give the token on the page Jobs first"]}
        user = self._user if admitted else MASTER  # what everybody may read, an administrator may
        return await self._ask(method, json.dumps({"name": name, **more}), user)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
