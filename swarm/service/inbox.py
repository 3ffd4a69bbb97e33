"""What clients ask of the master: the scheduler announces a request, keeps it, and hands its answer on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from swarm.blocking import in_thread
from swarm.errors import SwarmError
from swarm.service.protocol import REQUESTS

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger("swarm.master")


class Inbox:
    """Takes up each request and has it answered.

    Args:
        client: An asynchronous client of the cluster.
        do: Does what is asked: ``do(method=…, data=…, blob=…, user=…)``; what it returns, as JSON, is the answer.
        watch: Lets work go on in the background.
        thread: Where answers are written, which takes its time for a long one; None writes them here.
    """

    def __init__(
        self,
        client: Client,
        do: Callable[..., Awaitable[Any]],
        watch: Callable[[Awaitable[None]], None],
        thread: Executor | None,
    ) -> None:
        self._client = client
        self._do = do
        self._watch = watch
        self._thread = thread
        self._answering: set[int] = set()  # numbers of the requests

    def open(self) -> None:
        """Hear of requests."""
        self._client.subscribe_topic(REQUESTS, self._on_request)

    def close(self) -> None:
        """Hear of none any more."""
        with contextlib.suppress(Exception):  # the client may be closed
            self._client.unsubscribe_topic(REQUESTS)

    def take_up(self, numbers: Iterable[int]) -> None:
        """Answer these requests, but for those that are being answered."""
        for number in sorted(set(numbers) - self._answering):
            self._answering.add(number)
            self._watch(self._answer(number))

    def _on_request(self, event: tuple[float, Any]) -> None:
        if event[1].get("to") in (None, self._client.id):  # what is for a run of somebody's own says so
            self.take_up([event[1]["number"]])

    async def _answer(self, number: int) -> None:
        try:
            request = await self._client.scheduler.swarm_take(number=number)
            if request is not None:
                await self._client.scheduler.swarm_reply(number=number, answer=await self._answer_to(**request))
        except OSError:  # whoever asked will ask again
            pass
        finally:
            self._answering.discard(number)

    async def _answer_to(self, method: str, data: str, blob: bytes, user: str) -> dict[str, Any]:
        try:
            answer = await self._do(method=method, data=data, blob=blob, user=user)
            return {"ok": await in_thread(self._thread, lambda: json.dumps(answer))}
        except SwarmError as error:
            _log.info("refused %s of %s: %s", method, user, error)
            return {"error": [type(error).__name__, str(error)]}
        except Exception as error:
            _log.exception("request %s", method)
            return {"error": ["SwarmError", f"the master failed at it: {type(error).__name__}; see its log"]}
