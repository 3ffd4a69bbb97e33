"""What systemd is told of a process that it has started: that it is ready, that it is alive, and that it ends.

Units with ``Type=notify`` name a socket in ``NOTIFY_SOCKET``, and those with ``WatchdogSec`` the time between two signs
of life in ``WATCHDOG_USEC``: see ``man sd_notify``. Where nobody has set these, nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, MutableMapping

_SIGNS = 3  # of life within the time of the watchdog


class Systemd:
    """The service manager that started this process, if it wants to be notified.

    Args:
        address: Path of a socket, or a name in Linux's abstract namespace after an ``@``; None: it does not.
        watchdog_seconds: This process is ended and started again if it is silent for so long; None: no watchdog.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds

    @classmethod
    def of_process(cls, environment: MutableMapping[str, str] | None = None) -> Systemd:
        """The one that the environment names, which is then taken out of it: it is not for our own processes.

        Args:
            environment: Left out, this process's.
        """
        variables = os.environ if environment is None else environment
        address, pause, pid = (variables.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        watched = pause.isdigit() and int(pause) > 0 and pid in ("", str(os.getpid()))
        return cls(address or None, int(pause) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """This process has begun its work; said again, only the status is new.

        Args:
            status: What it does, one line for ``systemctl status``.
        """
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """This process is about to end in order."""
        self._tell("STOPPING=1")

    async def watched(self, work: Awaitable[None]) -> None:
        """Do something, and give signs of life meanwhile, from the event loop: one that hangs gives none."""
        signs = asyncio.ensure_future(self._live())
        try:
            await work
        finally:
            signs.cancel()

    async def _live(self) -> None:
        while self._address is not None and self._watchdog_seconds is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / _SIGNS)

    def _tell(self, text: str) -> None:
        """Send it; what cannot be sent is not worth an error, since systemd notices silence by itself."""
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(text.encode(), address)
