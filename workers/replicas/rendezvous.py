"""Where the replicas of one training meet, each in the worker process of its slot, before the training begins.

Replica 0 listens where its worker does and invites the others: the master gives each the invitation, together with the
training. It holds a secret that came over Dask's own connections, so that only members of the cluster can accept it.
The open lines are then handed to the processes that train. Where Dask speaks TLS, so do they, with its certificates.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from swarm.trial import Evaluation

MEET_SECONDS = 30.0  # the slots of all replicas are free, and none loads anything before it has met the others
_GREETING_SECONDS = 5.0
_NONCE_BYTES, _DIGEST_BYTES = 16, 32
_SILENT_SECONDS = 30  # that the machine of another replica may be while nothing is under way to it

Certificates = tuple[str, str, str]
"""Files of the authority, and of this worker's certificate and key; or what such files would hold."""


class NotMetError(Exception):
    """The replicas have not come together; the text says who is missing."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one replica among those that train one network together.

    Attributes:
        rank: Number of the replica; number 0 is the parameter server as well.
        size: Number of replicas.
        sync: Whether they take every step together.
        lines: Open connections: of replica 0 to all others, by rank; of each other to replica 0.
        tls: What to encrypt the lines with, or None.
    """

    rank: int
    size: int
    sync: bool
    lines: tuple[socket.socket, ...]
    tls: Certificates | None = None

    def plain(self) -> dict[str, Any]:
        """All of it but the lines, JSON-ready."""
        return {"rank": self.rank, "size": self.size, "sync": self.sync, "tls": self.tls, "lines": len(self.lines)}

    def hand_over(self, channel: Connection) -> None:
        """Gives the lines to the process at the other end of ``channel``, which takes them with :meth:`taken`."""
        for line in self.lines:
            send_handle(channel, line.fileno(), None)
            line.close()

    @classmethod
    def taken(cls, plain: Mapping[str, Any], channel: Connection) -> Seat:
        """The seat that another process hands over."""
        lines = tuple(socket.socket(fileno=recv_handle(channel)) for _ in range(plain["lines"]))
        tls = None if plain["tls"] is None else tuple(plain["tls"])
        return cls(plain["rank"], plain["size"], plain["sync"], lines, tls)

    def secured(self) -> list[socket.socket]:
        """The lines as they are to be used; each end waits for the other to come."""
        if self.tls is None:
            return list(self.lines)
        import ssl

        authority, *mine = self.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self.rank == 0 else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # whoever has a certificate of this authority belongs to the cluster
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(**{"cadata" if "\n" in authority else "cafile": authority})
        with tempfile.TemporaryDirectory(prefix="swarm-") as folder:  # readable for its owner alone
            for number, text in enumerate(mine):
                if "\n" in text:
                    mine[number] = str(Path(folder, str(number)))
                    Path(mine[number]).write_text(text, encoding="utf-8")
            context.load_cert_chain(*mine)
        return [context.wrap_socket(line, server_side=self.rank == 0) for line in self.lines]


@contextlib.contextmanager
def seated(
    evaluation: Evaluation, invitation: Mapping[str, Any] | None, invite: Callable[[Mapping[str, Any]], None]
) -> Iterator[Seat | None]:
    """The seat of this process in a training of several replicas, once all have come; None for a training of one.

    Args:
        evaluation: What they train.
        invitation: What replica 0 said, and the ``rank`` of this one; None for replica 0 itself.
        invite: Has the others invited.

    Raises:
        NotMetError: Somebody has not come in time.
        OSError: This machine has no port left.
    """
    if evaluation.replicas == 1:
        yield None
        return
    tls = _certificates()
    if invitation is None:
        rank, lines = 0, _received(evaluation.replicas, invite)
    else:
        rank, lines = int(invitation["rank"]), (_visited(invitation),)
    try:
        for line in lines:
            _watch(line)
        yield Seat(rank, evaluation.replicas, evaluation.sync, lines, tls)
    finally:
        for line in lines:
            line.close()


def _received(size: int, invite: Callable[[Mapping[str, Any]], None]) -> tuple[socket.socket, ...]:
    """The lines to all other replicas, by rank."""
    secret, deadline = secrets.token_bytes(_DIGEST_BYTES), time.monotonic() + MEET_SECONDS
    found: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as undone, socket.create_server((_host(), 0)) as listener:
        host, port = listener.getsockname()[:2]
        invite({"host": host, "port": port, "secret": secret.hex(), "attempt": secrets.token_hex(4)})
        while len(found) < size - 1:
            listener.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                line, _ = listener.accept()
            except TimeoutError:
                missing = ", ".join(str(rank) for rank in range(1, size) if rank not in found)
                raise NotMetError(f"replica {missing} of {size} did not come within {MEET_SECONDS:g} s") from None
            rank = _greeted(line, secret)
            if rank in found or not 0 < rank < size:  # a stranger
                line.close()
                continue
            found[rank] = undone.enter_context(line)
        undone.pop_all()
    return tuple(found[rank] for rank in sorted(found))


def _greeted(line: socket.socket, secret: bytes) -> int:
    """The rank of the other end, or -1 if that does not know the secret."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    line.settimeout(_GREETING_SECONDS)
    try:
        line.sendall(nonce)
        answer = _exactly(line, 2 + _DIGEST_BYTES)
    except (OSError, EOFError):
        return -1
    known = hmac.compare_digest(answer[2:], _proof(secret, nonce, answer[:2]))
    return int.from_bytes(answer[:2], "big") if known else -1


def _visited(invitation: Mapping[str, Any]) -> socket.socket:
    """The line to replica 0."""
    rank = int(invitation["rank"]).to_bytes(2, "big")
    try:
        line = socket.create_connection((invitation["host"], invitation["port"]), timeout=MEET_SECONDS)
        line.sendall(rank + _proof(bytes.fromhex(invitation["secret"]), _exactly(line, _NONCE_BYTES), rank))
    except (OSError, EOFError) as error:
        raise NotMetError(f"replica 0 is not there: {error or type(error).__name__}") from None
    return line


def _proof(secret: bytes, nonce: bytes, rank: bytes) -> bytes:
    return hmac.digest(secret, nonce + rank, "sha256")


def _exactly(line: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = line.recv(size - len(content))
        if not more:
            raise EOFError("the other side has closed the line")
        content += more
    return content


def _watch(line: socket.socket) -> None:
    """Messages go out at once, and a machine that is gone is missed, though nothing says so.

    There is no limit to how long the other side may take to read, or to answer: it may have to load its data first.
    """
    line.settimeout(None)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS // 3)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // 6)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _host() -> str:
    """Where this worker listens for others."""
    worker = _worker()
    return "127.0.0.1" if worker is None else urlsplit(worker.address).hostname or "127.0.0.1"


def _certificates() -> Certificates | None:
    worker = _worker()
    if worker is None or not worker.address.startswith("tls://"):
        return None
    security = worker.security
    return security.tls_ca_file, security.tls_worker_cert, security.tls_worker_key


def _worker() -> Any:
    """The Dask worker that this thread belongs to, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
