"""Processes that train one network together, each on its share of the examples (data parallelism).

Source: NHOP, Neural network Hyper-parameter OPtimization with distributed TensorFlow, section II.C. Synchronous: all
replicas read the same weights, compute their gradients in parallel, and apply their mean together. Asynchronous: each
goes its own pace, and the parameter server takes in what it has changed as it arrives. Replica 0 is the server, too.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from swarm.workers.replicas.rendezvous import Seat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.floating[Any]]

_HEADER = struct.Struct("!c3sQ")  # what it is, of which type, and how many bytes follow
_PARTING_SECONDS = 10.0
_VALUES, _CHANGE, _BYE = b"v", b"c", b"b"


class ReplicaLost(Exception):
    """Another replica has ended before its time; let it pass, and the search trains again."""


class Replicas:
    """The replicas of one training, as one of them sees them. Made without a seat, it is the only one.

    A training of several gives each its part of the examples, ``x[replicas.rank :: replicas.size]``, and begins with
    :meth:`start`. A synchronous one takes the :meth:`mean` of the gradients at every step; since that is the same
    everywhere, so are the weights. An asynchronous one takes steps of its own, and exchanges what each has changed
    for the newest weights, with :meth:`push`; :meth:`settle` is for where all are to have the same, such as an epoch's
    end, and the last thing that it does. All replicas call ``start``, ``mean`` and ``settle`` in the same order.

    Args:
        seat: The place of this one.

    Attributes:
        rank: Number of this one, from 0. What number 0 returns, reports and saves is the training's.
        size: Number of replicas.
        sync: Whether it is a synchronous training.
        lost: Which other one has ended before its time, or None.
        met: Whether they have exchanged anything.
    """

    def __init__(self, seat: Seat | None = None) -> None:
        self.rank, self.size, self.sync = (0, 1, True) if seat is None else (seat.rank, seat.size, seat.sync)
        self.lost: str | None = None
        self.met = False
        self._lines = [] if seat is None else [_Line(line) for line in seat.secured()]
        self._server = _Server(self._lines) if self.rank == 0 and not self.sync else None

    @property
    def alone(self) -> bool:
        """Whether there is nobody to exchange anything with."""
        return self.size == 1 and self.sync

    def start(self, weights: Vector) -> Vector:
        """The weights of replica 0, with which all begin.

        Args:
            weights: The same number everywhere, one dimension.

        Raises:
            ReplicaLost: Another one has ended.
        """
        if self._server is not None:
            self._server.begin(weights)
        return self._common(weights[:0], lambda _: weights)

    def mean(self, values: Vector) -> Vector:
        """The mean of what all replicas give here, the same for all to the last bit.

        Args:
            values: The same number and type everywhere, one dimension.

        Raises:
            ReplicaLost: Another one has ended.
            ValueError: Another one gave a different number of values.
        """

        def combined(others: list[Vector]) -> Vector:
            total = values.copy()
            for rank, other in enumerate(others, 1):
                if other.shape != values.shape:
                    raise ValueError(f"replica {rank} gave {other.size} values to be averaged with {values.size}")
                total += other
            total /= self.size
            return total

        return self._common(values, combined)

    def push(self, change: Vector) -> Vector:
        """Adds a change to the weights of an asynchronous training, without waiting for anybody.

        Args:
            change: What has been added to the weights that this replica was given last.

        Returns:
            The weights with all changes so far.

        Raises:
            ReplicaLost: Another one has ended.
        """
        with self._noting():
            if self._server is not None:
                return self._server.add(0, change)
            self._lines[0].send(_CHANGE, change)
            return self._lines[0].receive()

    def settle(self) -> Vector:
        """The weights of an asynchronous training when every replica has come here, the same for all.

        Raises:
            ReplicaLost: Another one has ended.
        """
        import numpy as np

        return self._common(np.empty(0), lambda _: self._newest())

    @property
    def staleness(self) -> float:
        """How many changes by others came, on average, between what a change was made from and what it was added to."""
        return 0.0 if self._server is None else self._server.staleness

    def close(self, *, well: bool) -> None:
        """Ends the connections; if all is ``well``, the others are not to mind."""
        if well and self.rank:
            with contextlib.suppress(OSError):
                self._lines[0].send(_BYE)
        elif well and self._server is not None:
            self._server.finish()
        for line in self._lines:
            line.close()

    def _newest(self) -> Vector:
        assert self._server is not None
        return self._server.weights.copy()

    def _common(self, values: Vector, combined: Callable[[list[Vector]], Vector]) -> Vector:
        """What replica 0 makes of what the others give."""
        with self._noting():
            if self.rank:
                self._lines[0].send(_VALUES, values)
                return self._lines[0].receive()
            others = [self._taken(rank) for rank in range(1, self.size)]
            result = combined(others)
            for rank in range(1, self.size):
                self._give(rank, result)
            return result

    def _taken(self, rank: int) -> Vector:
        return self._lines[rank - 1].receive() if self._server is None else self._server.taken(rank)

    def _give(self, rank: int, values: Vector) -> None:
        if self._server is None:
            self._lines[rank - 1].send(_VALUES, values)
        else:
            self._server.give(rank, values)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        self.met = True
        try:
            yield
        except (EOFError, OSError) as error:
            self.lost = f"another replica went away ({error or type(error).__name__})"
            raise ReplicaLost(self.lost) from error


class _Line:
    """A connection that carries arrays."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def send(self, kind: bytes, values: Vector | None = None) -> None:
        if values is None:
            self._line.sendall(_HEADER.pack(kind, b"", 0))
            return
        content: Any = values.ravel().view("uint8")
        self._line.sendall(_HEADER.pack(kind, values.dtype.str.encode(), content.nbytes))
        self._line.sendall(content)

    def receive(self) -> Vector:
        """Values."""
        kind, values = self.receive_any()
        if kind != _VALUES:
            raise EOFError("it has ended")
        return values

    def receive_any(self) -> tuple[bytes, Vector]:
        """What it is, and values; none with the last message."""
        kind, form, size = _HEADER.unpack(self._read(_HEADER.size))
        return kind, self._read(size).view(form.rstrip(b"\0").decode() or "u1")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a thread may be waiting for it
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()

    def _read(self, size: int) -> Any:
        import numpy as np

        content: Any = np.empty(size, np.uint8)
        left = memoryview(content)
        while left:
            received = self._line.recv_into(left)
            if not received:
                raise EOFError("the line is closed")
            left = left[received:]
        return content


class _Server:
    """The parameter server of an asynchronous training, in the process of replica 0: a thread for each of the others.

    Args:
        lines: To the others, by rank.

    Attributes:
        weights: With all changes so far.
    """

    weights: Vector

    def __init__(self, lines: list[_Line]) -> None:
        self._lock = threading.Lock()
        self._gone: str | None = None
        self._changes = self._missed = 0
        self._seen = [0] * (len(lines) + 1)  # changes that each replica's weights have
        self._given: list[queue.SimpleQueue[Vector | None]] = [queue.SimpleQueue() for _ in lines]
        self._answers: list[queue.SimpleQueue[Vector]] = [queue.SimpleQueue() for _ in lines]
        self._lines = lines
        self._threads: list[threading.Thread] = []

    @property
    def staleness(self) -> float:
        return self._missed / max(1, self._changes)

    def begin(self, weights: Vector) -> None:
        """Takes changes to these weights from now on."""
        self.weights = weights.copy()
        for rank in range(1, len(self._lines) + 1):
            self._threads.append(threading.Thread(target=self._serve, args=(rank,), daemon=True))
            self._threads[-1].start()

    def add(self, rank: int, change: Vector) -> Vector:
        """Adds a change; the new weights."""
        with self._lock:
            if self._gone is not None:
                raise EOFError(self._gone)
            self._missed += self._changes - self._seen[rank]
            self.weights += change
            self._changes += 1
            self._seen[rank] = self._changes
            return self.weights.copy()

    def taken(self, rank: int) -> Vector:
        """What a replica gives to all."""
        values = self._given[rank - 1].get()
        if values is None:
            raise EOFError(self._gone)
        return values

    def give(self, rank: int, values: Vector) -> None:
        """Answers it."""
        self._answers[rank - 1].put(values)

    def finish(self) -> None:
        """Returns when the others have their last answers, and have said good-bye."""
        for thread in self._threads:
            thread.join(_PARTING_SECONDS)

    def _serve(self, rank: int) -> None:
        """All that goes over one line, which is not for two threads."""
        line, given = self._lines[rank - 1], self._given[rank - 1]
        try:
            while True:
                kind, values = line.receive_any()
                if kind == _CHANGE:
                    line.send(_VALUES, self.add(rank, values))
                elif kind == _VALUES:
                    given.put(values)
                    line.send(_VALUES, self._answers[rank - 1].get())
                else:
                    return
        except (EOFError, OSError) as error:
            self._gone = f"replica {rank}: {error or type(error).__name__}"
        finally:
            given.put(None)
