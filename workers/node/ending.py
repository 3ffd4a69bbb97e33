"""The end of a worker that is told to end: its trainings are told, and have a while to save what they have.

A training asks ``ctx.ending`` whether it is so. One that has saved raises :class:`swarm.errors.Ending`, and goes on
elsewhere from there; one that does not is ended when the while is over. No attempt counts against anybody.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_PARTING_SECONDS = 2.0  # for trainings that are ended, before they are given up

Abandon = Callable[[], None]


class Ending:
    """What a process knows of its own end, which its trainings share.

    The clock is the monotonic one, which all processes of a machine have in common.
    """

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._changed = threading.Condition()
        self._tell: list[Callable[[float], None]] = []
        self._cut: list[Callable[[], None]] = []
        self._present: dict[object, Abandon] = {}
        self._notes: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether this process was told to end."""
        return self._deadline is not None

    def left(self) -> float | None:
        """Seconds until what runs here is ended; None if nobody has told this process to end."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def deadline(self) -> float | None:
        """When what runs here is ended, on the monotonic clock; None as :meth:`left`."""
        return self._deadline

    def told(self, within: float) -> bool:
        """Whether this process was told to end, or is within so many seconds.

        Whoever ends all processes of a machine at once has perhaps ended a training before this one has heard of it.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self.begun, within)

    def listen(self, tell: Callable[[float], None], cut: Callable[[], None]) -> None:
        """Have trainings told through ``tell(deadline)``, and those that still run in the end through ``cut()``."""
        self._tell.append(tell)
        self._cut.append(cut)

    @contextlib.contextmanager
    def awaited(self, abandon: Abandon) -> Iterator[None]:
        """A training is here, for whose end this process waits; ``abandon()`` says that it has given it up."""
        guest = object()
        with self._changed:
            self._present[guest] = abandon
        try:
            yield
        finally:
            with self._changed:
                self._present.pop(guest, None)
                self._changed.notify_all()

    def note(self, text: str) -> None:
        """Remember what has become of a training, for whoever has told this process to end."""
        with self._changed:
            self._notes.append(text)

    def begin(self, seconds: float) -> int:
        """This process ends in so many seconds at the latest. It may be said again, with the time that is left then.

        Returns:
            How many trainings are here.
        """
        with self._changed:
            self._deadline = time.monotonic() + seconds
            present = len(self._present)
            self._changed.notify_all()
        for tell in self._tell:
            tell(self._deadline)
        return present

    def wait(self) -> list[str]:
        """Wait until no training is here any more; those that still run when the time is over are ended.

        Returns:
            What has become of them, a line for each that did not end by itself.
        """
        with self._changed:
            over = self._changed.wait_for(lambda: not self._present, self.left())
        for cut in () if over else self._cut:
            cut()
        with self._changed:
            self._changed.wait_for(lambda: not self._present, _PARTING_SECONDS)
            abandoned = list(self._present.values())
        for abandon in abandoned:
            abandon()
        with self._changed:
            return list(self._notes)


own = Ending()
"""That of this process."""
