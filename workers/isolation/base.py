"""What the servers of all problems of a machine are forked from: it has the frameworks imported, and no user's code.

A server that is forked from here shares the frameworks' memory with the others, and need not import them: a second
job's first training begins at once. What to import it is told by the servers (:mod:`swarm.workers.isolation.scout`).
A server becomes its worker's child, so it does not end with this process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import NoReturn

from swarm.workers.isolation.fork_safety import obstacle
from swarm.workers.isolation.forkserver import (
    ForkServer,
    ending_with,
    hear,
    say,
    serve_on,
    without_chatter,
)
from swarm.workers.isolation.settling import place_in_line


def main(descriptor: int) -> NoReturn:
    """Imports modules and forks servers as the worker asks for it, until that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the master
    place_in_line()
    control = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        while True:
            kind, content = hear(control)
            if kind == "import":
                with ending_with(control):
                    _import(content)
                say(control, "imported")
            else:
                channel = Connection(recv_handle(control))
                reason = obstacle()
                said = ("pid", _forked(control, channel, content)) if reason is None else ("refused", reason)
                channel.close()
                say(control, *said)
    os._exit(0)


def _import(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception), without_chatter():
            importlib.import_module(name)
    ForkServer.freeze()


def _forked(control: Connection, channel: Connection, env: dict[str, str]) -> int:
    """The process of a new server, which is nobody's child here when this returns."""
    heard, told = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            pid = os.fork()
            if pid:
                os.write(told, str(pid).encode())
            else:
                os.setsid()
                for line in (control.fileno(), heard, told):
                    os.close(line)
                os.environ.clear()
                os.environ.update(env)
                place_in_line()
                serve_on(channel)
        finally:
            os._exit(0)
    os.close(told)
    os.waitpid(between, 0)
    with os.fdopen(heard) as answer:
        return int(answer.read())


if __name__ == "__main__":
    main(int(sys.argv[1]))
