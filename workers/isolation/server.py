"""The process that holds one problem of a worker, seen from the worker: started when needed, and again if it died."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from typing import Any

from swarm.workers.bundle import FOLDER
from swarm.workers.isolation.chain import Base, Process, spawned
from swarm.workers.isolation.child import Child
from swarm.workers.isolation.forkserver import Sharing, hear, say
from swarm.workers.isolation.scout import FRAMEWORKS
from swarm.workers.isolation.settling import SLOT_PLACE
from swarm.workers.node import gpu
from swarm.workers.node.slots import SLOTS, THREADS, own

LOAD_SECONDS = 900.0
SLOW = f"its problem was not loaded and prepared within {LOAD_SECONDS:g} s"

_END_SECONDS = 5.0

logger = logging.getLogger("swarm.workers")
base = Base()
"""What the servers of this process are forked from."""


def environment() -> dict[str, str]:
    """Defaults of the variables that a training's libraries read; what the worker's environment sets, wins.

    One thread per slot where there is no GPU: the slots share the machine's cores, and the number of threads
    changes the last bits of a training's sums. A server has one in any case; its trainings have what their slot has.
    """
    defaults = {
        "OMP_NUM_THREADS": "1",  # more would leave threads behind at the import of NumPy: no safe fork
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pandas imports pyarrow if it is there: the same
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # else torch.cuda.is_available() initialises CUDA: no safe fork
    }
    if gpu.GPUS_PER_TRAINING not in os.environ:  # nobody says whether the GPU is shared
        defaults["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "") in ("", "-1"):
        defaults |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return defaults


class LoadFailedError(Exception):
    """The problem cannot be loaded or prepared; the text says why."""


class ServerDiedError(Exception):
    """The server ended by itself; the text says how."""


class Server:
    """A fork server and how much its children share; started when first needed, and again if it died."""

    def __init__(self, problem: bytes) -> None:
        self.users = 0  # evaluating threads; guarded by the lock of the module
        self._problem = problem
        self._sharing = Sharing.PROBLEM
        self._modules: list[str] = []
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._control: Connection | None = None
        self._closed = False
        self._folder: str | None = None  # of the sources that came with the problem

    def fork(self, env: Mapping[str, str], *, heard: bool = False) -> Child:
        """A new child.

        Args:
            env: What its environment has beside the server's.
            heard: Whether what it prints comes here, instead of going where the server's goes.

        Raises:
            LoadFailedError: The problem cannot be loaded.
            ServerDiedError: The server ended meanwhile, or was closed.
        """
        with self._lock:
            while True:
                idle = self._process is not None
                try:
                    channel, lifeline, output, (answer, said) = self._request(env, heard)
                except ServerDiedError:
                    if not idle:
                        raise
                    continue  # it had died before, which is no fault of the training
                if answer == "pid":
                    return Child(self._problem, channel, lifeline, int(said), output)
                if output is not None:
                    os.close(output)
                self._step_down(str(said))

    def close(self) -> None:
        """Ends the server and its trainings for good, amid its loading too; returns when no process is left."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None and process is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(control.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # not closed, since another thread may be waiting for it
            self._bury(process)

    def _request(
        self, env: Mapping[str, str], heard: bool
    ) -> tuple[Connection, Connection, int | None, tuple[str, int | str]]:
        control, process = self._running()
        (channel, theirs), (lifeline, held) = Pipe(), Pipe()
        output, prints = os.pipe() if heard else (None, None)
        try:
            with theirs, held:
                say(control, "train", dict(env), heard)
                for line in (theirs.fileno(), held.fileno(), *([] if prints is None else [prints])):
                    send_handle(control, line, process.pid)
            if output is not None:
                os.set_blocking(output, False)
            return channel, lifeline, output, tuple(hear(lifeline))
        except (EOFError, OSError):
            if output is not None:
                os.close(output)
            raise self._died(process) from None
        finally:
            if prints is not None:
                os.close(prints)

    def _running(self) -> tuple[Connection, Process]:
        control, process = self._control, self._process
        return self._launch() if control is None or process is None else (control, process)

    def _launch(self) -> tuple[Connection, Process]:
        """A new server that has loaded the problem: forked from the base if that can be, else started fresh."""
        chained = SLOTS in os.environ and self._sharing is Sharing.PROBLEM
        while True:
            if self._closed:
                raise ServerDiedError("the process that holds the problem was ended")
            self._folder = tempfile.mkdtemp(prefix="swarm-")
            env = _server_environment(self._folder)
            tried = list(base.tried)
            begun = base.fork(env) if chained else None
            control, process = begun or spawned("forkserver", env)
            answer, content = self._load(control, process, tried if begun else None)
            if answer == "ready":
                self._modules, learned = content
                _learn(learned)
                return control, process
            self._control = self._process = None
            if answer == "failed":
                process.kill()
            self._bury(process)
            control.close()
            if answer == "failed":
                raise LoadFailedError(content)
            if answer == "needed":
                base.teach(content)
            chained = answer == "needed"

    def _load(self, control: Connection, process: Process, tried: list[str] | None) -> tuple[str, Any]:
        """What a new server says once it has loaded the problem."""
        self._control, self._process = control, process  # from now on close() finds it …
        if self._closed:  # … but it has been here before
            self._stop()
        try:
            say(control, self._sharing, self._modules, tried)
            control.send_bytes(self._problem)
            answer, content = hear(control) if control.poll(LOAD_SECONDS) else ("failed", SLOW)
        except (EOFError, OSError):
            raise self._died(process) from None
        return answer, content

    def _died(self, process: Process) -> ServerDiedError:
        self._process = self._control = None
        self._bury(process)
        return ServerDiedError(f"the process that holds the problem {ended(process.wait())}")

    def _bury(self, process: Process) -> None:
        """Waits for the server's end, and removes the files that it has read the problem from."""
        _end(process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _step_down(self, reason: str) -> None:
        self._stop()
        self._sharing = Sharing(self._sharing - 1)
        logger.warning(
            "importing and preparing the problem left %s, which cannot be forked; each training now "
            "%s. Let imports and prepare() start no thread and touch no device, and set OMP_NUM_THREADS=1",
            reason,
            "prepares it itself" if self._sharing is Sharing.MODULES else "imports and prepares it itself",
        )


def _end(process: Process) -> None:
    """Waits for a server whose line is cut, and loses patience after a while."""
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ended(returncode: int) -> str:
    """How a process has ended, for people."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"


def _learn(names: list[str]) -> None:
    """Has the base import, in the background, what a server has imported by itself, but no framework so large."""
    new = [name for name in names if name not in FRAMEWORKS]
    if not set(new) <= set(base.tried):
        threading.Thread(target=base.teach, args=(new,), name="swarm-base", daemon=True).start()


def _server_environment(folder: str) -> dict[str, str]:
    """Environment of a server that has its problem's sources in a folder; a child of it has its slot's as well."""
    env = {**environment(), **os.environ, "PYTHONPATH": _python_path(), FOLDER: folder}
    if own.all:  # else it is not known who sets the threads of a training
        env |= {name: "1" for name in THREADS if name in own.all[0].env}
    if own.several:
        env.setdefault(gpu.SLOT, SLOT_PLACE)
    env.pop(SLOTS, None)
    return env


def _python_path() -> str:
    """This process's module search path, for problems that are pickled by reference."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
