"""What listens beyond this machine: whoever reaches a port of Dask can run code as the user who opened it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
import socket
from pathlib import Path
from urllib.parse import urlsplit

from swarm.errors import InvalidInput

_PORT = 8786
_PEOPLE = range(1000, 65534)  # below are the system's own users, above is nobody
_NAMES = Path("/etc/nsswitch.conf")
_DIRECTORIES = {"sss", "ldap", "winbind", "nis"}


def check_exposed(host: str, insecure: bool, *, tls: bool = False) -> None:
    """Refuse to listen where others can reach us, unless they must show a certificate or the user wants it so.

    Args:
        host: Host name or IP address to listen on; empty is every interface.
        insecure: The user said that everybody who can reach ``host`` may run code.
        tls: Only who has a certificate of ours is let in.

    Raises:
        InvalidInput: Neither holds, and ``host`` is not the loopback interface alone.
    """
    if not (insecure or tls or _is_loopback(host)):
        raise InvalidInput(
            f"without TLS, anyone who can reach {host or 'this machine'} could run code as you: configure Dask's TLS "
            "(distributed.comm.tls) and use tls:// addresses, listen on --host 127.0.0.1, or accept it with --insecure"
        )


def other_users() -> bool:
    """Whether this machine has users who could reach what listens on its loopback interface, root aside.

    Where accounts come over the network, which need not list them, there are taken to be some.
    """
    lines = []
    with contextlib.suppress(OSError):
        lines = _NAMES.read_text(encoding="utf-8", errors="replace").splitlines()
    if any(line.startswith("passwd:") and _DIRECTORIES & set(line.split()) for line in lines):
        return True
    return any(
        each.pw_uid in _PEOPLE and each.pw_uid != os.geteuid() and not each.pw_shell.endswith(("nologin", "false"))
        for each in pwd.getpwall()
    )


def listening_host(scheduler: str, host: str | None = None, insecure: bool = False) -> str:
    """Where a worker of the scheduler listens: on ``host``, else on the interface that leads to the scheduler.

    Args:
        scheduler: The scheduler's address, such as ``tcp://10.0.0.1:8786``.
        host: Host name or IP address that the user chose.
        insecure: As for :func:`check_exposed`.

    Raises:
        InvalidInput: That is no address, or others could reach the worker without TLS.
        OSError: The scheduler's host is not known, or there is no way to it (now).
    """
    try:
        parts = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
        name, port = parts.hostname, parts.port or _PORT
    except ValueError:
        name = None
    if name is None:
        raise InvalidInput(f"{scheduler!r} is no address of a scheduler; expected tcp://HOST:PORT")
    chosen = _facing(name, port) if host is None else host
    check_exposed(chosen, insecure, tls=parts.scheme == "tls")
    return chosen


def _facing(host: str, port: int) -> str:
    """IP address of the interface through which packets to ``host`` would leave; none is sent."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _is_loopback(host: str) -> bool:
    if not host:
        return False
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)
