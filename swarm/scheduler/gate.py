"""What comes in at the scheduler's port from others than the master is checked before anything of it is unpickled.

Dask unpickles whatever a message holds while it reads it, before it looks at who has sent it and what it asks for. So
the connections themselves are ours: those of users take plain messages alone, with the requests that users may make;
those of workers leave what is serialized as it is, and take nothing that only pickle could read.
"""

from __future__ import annotations

import logging
import struct
from functools import partial
from ssl import SSLError
from typing import Any, NoReturn

import msgpack  # type: ignore[import-untyped]
from distributed import Scheduler
from distributed.comm.core import CommClosedError
from distributed.comm.tcp import TLS, TLSListener, convert_stream_closed_error
from distributed.core import error_message
from distributed.metrics import time
from distributed.protocol.serialize import Serialized, msgpack_decode_default
from tornado.iostream import StreamClosedError

from swarm.scheduler.roles import EVENTS, FROM_WORKERS, Role, name_in, own_certificate, refusal, role_of

REFUSED = "swarm_refused"  # the handler that says so
_ROOM = 1 << 20  # bytes of a request beside the job
_MOST_OF_WORKERS = 1 << 40  # bytes: there is no limit to what a training may report, but a sensible one
_MOST_FRAMES = 1 << 20
_CHUNK = 1 << 20
_NUMBER = struct.Struct("Q")
_log = logging.getLogger("swarm.scheduler")


def guard(scheduler: Scheduler, most: int) -> None:
    """Have the scheduler tell by their certificates who may do what, if it speaks TLS.

    Args:
        scheduler: It listens already, and has answered nobody yet.
        most: Largest job that is taken, in bytes.
    """
    scheduler.handlers[REFUSED] = _refused
    own = own_certificate(scheduler.security, "scheduler")
    for listener in scheduler.listeners:
        if isinstance(listener, TLSListener):
            listener.comm_class = partial(GuardedTLS, own=own, most=2 * most + _ROOM)


class NotPlainError(ValueError):
    """A message holds what its sender may not send."""


class GuardedTLS(TLS):  # type: ignore[misc]
    """The scheduler's end of a connection.

    Args:
        *arguments: As Dask gives them.
        own: The scheduler's certificate, DER: whoever shows the same is the same party.
        most: Largest message of a user's, in bytes.

    Attributes:
        role: Of the other end.
    """

    def __init__(self, *arguments: Any, own: bytes | None, most: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.name_shown = name_in(self._extra.get("peercert"))
        shown = None if self.stream is None else self.stream.socket.getpeercert(binary_form=True)
        self.role = Role.SCHEDULER if own is not None and shown == own else role_of(self.name_shown)
        self._most = most if self.role is Role.USER else _MOST_OF_WORKERS
        self._greeted = self._streaming = self._joining = False

    async def read(self, deserializers: Any = None) -> Any:
        """A message, or the request to refuse it."""
        if self.role.trusted:
            message = await super().read(deserializers)
            operation = message.get("op") if isinstance(message, dict) else None
            if operation is None or self.role.may_ask(operation):
                return message
            return self._refuse(operation, refusal(self.role, self.name_shown, operation))
        try:
            message = _decoded(await self._frames(), plain=self.role is Role.USER or not self._greeted)
        except (StreamClosedError, SSLError) as error:
            self.stream: Any = None
            self._closed = True
            convert_stream_closed_error(self, error)
        except NotPlainError as error:
            return self._refuse("a message", f"the certificate {self.name_shown!r} is a {self.role.value}'s: {error}")
        except BaseException as error:
            self.abort()
            if isinstance(error, ValueError | struct.error):  # no message at all, or one that was made to hurt
                self._hang_up(f"what came is no message: {error}")
            raise
        if not self._greeted:
            self._greeted = True
            return message
        return self._checked_stream(message) if self._streaming else self._checked(message)

    def _checked(self, message: Any) -> Any:
        """The request, if whoever makes it may do so."""
        operation = message.get("op") if isinstance(message, dict) else None
        if operation is None and self._joining:  # how a nanny says that it has started its worker, or not
            self._joining = False
            return message
        if not isinstance(operation, str):
            self.abort()
            self._hang_up("what came is no request")
        if operation == "close":
            return message
        if not self.role.may_ask(operation):
            return self._refuse(operation, refusal(self.role, self.name_shown, operation))
        if operation in EVENTS and not _is_plain(message):
            return self._refuse(operation, "an event consists of plain values")
        self._streaming, self._joining = operation == "register-worker", operation == "register_nanny"
        return message

    def _checked_stream(self, messages: Any) -> Any:
        for message in messages if isinstance(messages, list | tuple) else (messages,):
            operation = message.get("op") if isinstance(message, dict) else message
            known = operation in FROM_WORKERS or operation == "OK"
            if not known or (operation in EVENTS and not _is_plain(message)):
                self.abort()
                self._hang_up(refusal(self.role, self.name_shown, operation))
        return messages

    def _refuse(self, what: str, why: str) -> dict[str, Any]:
        _log.warning("refused %s from %s: %s", str(what)[:60], self.peer_address, why)
        return {"op": REFUSED, "what": what, "why": why}

    def _hang_up(self, why: str) -> NoReturn:
        _log.warning("hung up on %s: %s", self.peer_address, why)
        raise CommClosedError(why)

    async def _frames(self) -> list[bytes]:
        """The frames of the next message: the first holds it, the others what it refers to.

        Raises:
            NotPlainError: It is too large; what there was of it has been read.
        """
        stream = self.stream
        if stream is None:
            raise CommClosedError
        (total,) = _NUMBER.unpack(await stream.read_bytes(_NUMBER.size))
        if total > self._most:
            await self._skip(total)
            raise NotPlainError(f"{total / 1e6:.0f} MB are too many for one request: swarm.max-submission is the limit")
        head = await stream.read_bytes(total)
        (count,) = _NUMBER.unpack_from(head)
        if not 0 < count <= (1 if self.role is Role.USER else _MOST_FRAMES):
            await self._skip_rest(head, count)
            raise NotPlainError("a request consists of plain values, which need no pickle")
        sizes = struct.unpack_from(f"{count}Q", head, _NUMBER.size)
        at, frames = (1 + count) * _NUMBER.size, []
        for size in sizes:
            inside = head[at : at + size]
            frames.append(inside if len(inside) == size or not size else await stream.read_bytes(size))
            at += len(inside)
        return frames

    async def _skip_rest(self, head: bytes, count: int) -> None:
        """Read past what follows the head of a message that is not taken."""
        if not 0 < count <= _MOST_FRAMES or len(head) < (1 + count) * _NUMBER.size:
            raise ValueError(f"it has {count} frames")
        inside = len(head) - (1 + count) * _NUMBER.size
        await self._skip(sum(struct.unpack_from(f"{count}Q", head, _NUMBER.size)) - inside)

    async def _skip(self, size: int) -> None:
        if size > _MOST_OF_WORKERS:
            raise ValueError(f"it claims to have {size} bytes")
        while size > 0 and self.stream is not None:
            size -= len(await self.stream.read_bytes(min(size, _CHUNK)))


def _decoded(frames: list[bytes], *, plain: bool) -> Any:
    """A message as Dask packs it; what is serialized in it stays so."""

    def unpacked(found: dict[Any, Any]) -> Any:
        if "__Pickled__" in found:
            raise NotPlainError("what only pickle can read is not taken")
        at = found.get("__Serialized__", 0)
        if type(at) is int and 0 < at < len(frames):
            header = msgpack.loads(frames[at], object_hook=msgpack_decode_default, use_list=False, strict_map_key=False)
            return Serialized(header, frames[at + 1 : at + 1 + header["num-sub-frames"]])
        return msgpack_decode_default(found)

    hook = None if plain else unpacked
    return msgpack.loads(frames[0], object_hook=hook, use_list=False, strict_map_key=False, raw=False)


def _is_plain(value: Any) -> bool:
    """Whether nothing in it would be unpickled by the receiver."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    return not isinstance(value, Serialized)


def _refused(what: str, why: str) -> dict[str, Any]:
    """Tell whoever asked; this raises nothing here, lest Dask's log be filled with tracebacks."""
    if what == "register-worker":  # Dask's worker logs the message
        return {"status": "refused", "message": why, "time": time()}
    return {**error_message(PermissionError(why), status="uncaught-error"), "message": why}
