"""Who runs a job: one process at a time, whose name whoever comes second is told, and nobody as soon as it has died.

Beside an SQLite file it is a lock on another file, in PostgreSQL one of a session: kernel and server release them with
the process that holds them, however it ends. A master of the service needs none: it has the lease of the whole store.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from swarm.errors import JobConflict, StoreUnavailable
from swarm.store.sql import Store
from swarm.store.sql.engine import postgres_engine
from swarm.store.sql.remedies import complaint

_APPLICATION = "swarm run"
_NAME_BYTES = 63  # that PostgreSQL keeps of an application's name
_WATCHFUL = (  # the session of a machine that is gone without a word ends soon, that of one that computes does not
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)
_ATTEMPTS = 3
_PAUSE = 0.05  # seconds between them
_descriptors: set[int] = set()  # of the locked files
_log = logging.getLogger("swarm.store.run_lock")


@contextmanager
def alone(store: Store, job: str) -> Iterator[None]:
    """Run a job, and see that nobody else does until this ends.

    Raises:
        JobConflict: Somebody does; the text says who, and since when.
        StoreUnavailable: The lock cannot be reached.
    """
    with contextlib.ExitStack() as held:
        for _ in range(_ATTEMPTS):
            other = held.enter_context(_lock(store, job))
            if other is None:
                break
            held.close()  # perhaps a master has only looked, or somebody is just ending
            time.sleep(_PAUSE)
        who = other or _master(store, job)
        if who is not None:
            raise JobConflict(f"job {job!r} is being run by {who}; wait for it, or stop it and resume")
        yield


def running(store: Store, job: str) -> str | None:
    """Who runs a job on a machine's own, and since when; None if nobody does."""
    with _lock(store, job) as other:
        return other


@contextmanager
def _lock(store: Store, job: str) -> Iterator[str | None]:
    """Hold the lock of a job, or say who does."""
    if store.folder is not None:
        with _locked(store.folder, job) as other:
            yield other
    elif store.url.startswith("postgresql"):
        with _advised(store.url, job) as other:
            yield other
    else:  # in memory: nobody else can see it
        yield None


@contextmanager
def _locked(folder: Path, job: str) -> Iterator[str | None]:
    path = folder / f"{hashlib.sha256(job.encode()).hexdigest()[:16]}.running"
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written ({error.strerror}); make its folder writable") from error
    _descriptors.add(descriptor)
    ours = None
    try:
        ours = _taken(path, descriptor)
        yield None if ours else _described(descriptor)
    finally:
        if descriptor in _descriptors:  # else this is a fork of the process that has it
            _descriptors.discard(descriptor)
            if ours:
                with contextlib.suppress(OSError):
                    path.unlink()  # while it is locked: nobody else has it
            os.close(descriptor)
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing else is in it


def _let_go() -> None:
    """A fork does not hold what the process holds, which it may outlive."""
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_let_go)


def _opened(path: Path) -> int:
    while True:
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the folder went with the end of another run
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _taken(path: Path, descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some network file systems have none
        _log.warning("%s cannot be locked (%s): see to it that only one process runs this job", path, error.strerror)
        return True
    if not _is(path, descriptor):  # it was another's, who has ended and taken it away meanwhile
        again = _opened(path)
        os.dup2(again, descriptor, inheritable=False)
        os.close(again)
        return _taken(path, descriptor)
    content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "user": _user(), "since": time.time()})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content.encode(), 0)
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _described(descriptor: int) -> str:
    try:
        who = json.loads(os.pread(descriptor, 4096, 0))
        return _text(who["host"], int(who["pid"]), who["user"], float(who["since"]))
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return "another process"


@contextmanager
def _advised(url: str, job: str) -> Iterator[str | None]:
    """An advisory lock of a session of its own."""
    key = int.from_bytes(hashlib.sha256(f"dask-swarm run {job}".encode()).digest()[:8], "big", signed=True)
    name = f"{_APPLICATION} {os.getpid()} {socket.gethostname()} {_user()}".encode()[:_NAME_BYTES].decode(
        "utf-8", "ignore"
    )
    engine = postgres_engine(
        url,
        arguments={"application_name": name},
        poolclass=sa.NullPool,
        pool_pre_ping=False,
        isolation_level="AUTOCOMMIT",
    )
    try:
        connection = engine.connect()
        for statement in _WATCHFUL:
            with contextlib.suppress(sa.exc.DBAPIError):  # older servers know not all of them
                connection.execute(sa.text(statement))
        ours = connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one()
        other = None if ours else _session(connection, key)
    except sa.exc.DBAPIError as error:
        raise complaint(url, error) from error
    try:
        yield other
    finally:
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.close()
        engine.dispose()


def _session(connection: sa.Connection, key: int) -> str:
    """Whose session holds an advisory lock."""
    query = sa.text(
        "SELECT a.application_name, extract(epoch FROM a.backend_start) FROM pg_locks l JOIN pg_stat_activity a "
        "USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
        "AND l.classid::bigint = :high AND l.objid::bigint = :low"
    )
    low, high = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    row = connection.execute(query, {"high": high, "low": low}).first()
    words = "" if row is None else (row[0] or "")
    if row is None or not words.startswith(_APPLICATION):
        return "another process"
    pid, host, *user = words.removeprefix(_APPLICATION).split()
    return _text(host, int(pid), " ".join(user), float(row[1]))


def _master(store: Store, job: str) -> str | None:
    """The master that hosts the job, if there is one."""
    submission = store.submission(job)
    if submission is None or submission.state.ended:
        return None
    holder = store.lease_holder()
    if holder is None:
        return None
    host, pid, *_ = [*holder.split(":"), "?"]
    when = _moment(store.job(job).created)
    return f"the master of the service, process {pid} on {host}, to which {submission.owner} has submitted it at {when}"


def _text(host: str, pid: int, user: str, since: float) -> str:
    if (host, pid) == (socket.gethostname(), os.getpid()):
        return f"this process ({pid}), in another thread, since {_moment(since)}"
    return f"process {pid} of {user} on {host}, since {_moment(since)}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
