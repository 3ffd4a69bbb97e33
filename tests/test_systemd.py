"""What systemd hears of scheduler, master and worker by its socket: ready, alive, and about to end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from services import Service

from swarm.cluster.systemd import Systemd


class Notified:
    """The socket that systemd would have.

    Args:
        address: As ``NOTIFY_SOCKET`` says it.
    """

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self._socket.settimeout(60)

    def next(self) -> dict[str, str]:
        """What is said next, waited for."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def until(self, name: str) -> dict[str, str]:
        """The next that says this."""
        while name not in (said := self.next()):
            pass
        return said

    def waiting(self) -> int:
        """How many have come that nobody has looked at; they are thrown away."""
        count = 0
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(4096)
            count += 1
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def notified(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Notified]:
    address = tmp_path / "notify" if request.param == "path" else f"@swarm-{os.getpid()}-{tmp_path.name}"
    with closing(Notified(address)) as found:
        yield found


async def _short_work() -> None:
    await asyncio.sleep(0)


def test_what_is_said_reaches_the_socket(notified: Notified) -> None:
    systemd = Systemd(notified.address)
    systemd.ready("serves")
    assert notified.next() == {"READY": "1", "STATUS": "serves"}
    systemd.stopping()
    assert notified.next() == {"STOPPING": "1"}


async def test_an_event_loop_that_hangs_gives_no_sign_of_life(notified: Notified) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert await loop.run_in_executor(None, notified.next) == {"WATCHDOG": "1"}
        notified.waiting()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:  # it hangs
            pass
        assert notified.waiting() == 0
        assert await loop.run_in_executor(None, notified.next) == {"WATCHDOG": "1"}

    await Systemd(notified.address, watchdog_seconds=0.1).watched(work())
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("environment", "signs"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "5000000"}, 1),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}, 1),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, 0),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "often"}, 0),
    ],
)
def test_the_environment_asks_for_signs_of_life_and_is_kept_from_children(
    environment: dict[str, str], signs: int, tmp_path: Path
) -> None:
    with closing(Notified(tmp_path / "notify")) as notified:
        variables = {**environment, "NOTIFY_SOCKET": notified.address, "PATH": "/bin"}
        systemd = Systemd.of_process(variables)
        assert variables == {"PATH": "/bin"}
        asyncio.run(systemd.watched(_short_work()))
        assert notified.waiting() == signs


@pytest.mark.parametrize("address", [None, "/nowhere/at/all", "vsock:2:1234", "@nobody-listens", f"/{'x' * 200}"])
def test_where_nobody_listens_nothing_happens(address: str | None) -> None:
    systemd = Systemd(address, 1.0)
    systemd.ready("serves")
    systemd.stopping()
    asyncio.run(systemd.watched(_short_work()))


@pytest.mark.slow
def test_each_part_of_the_service_says_that_it_serves_lives_and_ends(tmp_path: Path) -> None:
    with ExitStack() as stack, Service(tmp_path) as service:

        def start(name: str, *arguments: str) -> Notified:
            notified = stack.enter_context(closing(Notified(tmp_path / name)))
            variables = f"NOTIFY_SOCKET={notified.address}", "WATCHDOG_USEC=300000"
            service.start(name, *arguments, inside=("env", *variables))
            return notified

        worker = start("workers", "worker", service.address, "--slots", "1")
        for _ in range(3):  # it looks for a scheduler
            assert worker.next() == {"WATCHDOG": "1"}
        scheduler = start("scheduler", "scheduler", "--port", str(service.port), "--dashboard", "127.0.0.1:0")
        assert f"scheduler at {service.address}" in scheduler.until("READY")["STATUS"]
        assert worker.until("READY")["STATUS"] == f"serves {service.address}, slots: 1"
        master = start("master", "master", service.address, "--store", service.store)
        assert f"serving {service.address}" in master.until("READY")["STATUS"]
        standby = start("standby", "master", service.address, "--store", service.store)
        assert "standing by" in standby.until("READY")["STATUS"]
        (process,) = service.worker_processes()
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & psutil.Process(process.pid).environ().keys()
        parts = {"workers": worker, "standby": standby, "master": master, "scheduler": scheduler}
        for name, notified in parts.items():
            assert notified.until("WATCHDOG") == {"WATCHDOG": "1"}
            service.kill(name, signal.SIGTERM)
            assert notified.until("STOPPING") == {"STOPPING": "1"}
            assert service.processes[name].wait(60) == 0
