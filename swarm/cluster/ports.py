"""Ports to listen on, tried before anything is started that would listen there."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing

from swarm.errors import InvalidInput, SchedulerUnreachable

_REMEDIES = {
    errno.EADDRINUSE: "is a scheduler there already? Stop it, or take another port: --port 0 takes a free one",
    errno.EADDRNOTAVAIL: "that is no address of this machine: 127.0.0.1 is for this machine alone, 0.0.0.0 for others",
    errno.EACCES: "ports below 1024 are the administrator's: take a higher one, such as --port 8786",
}


def check_free(host: str, port: int) -> None:
    """See whether a scheduler could listen there.

    Args:
        host: Name or address to listen on; empty is every one of this machine.
        port: The port; 0 takes any.

    Raises:
        InvalidInput: There is no such host.
        SchedulerUnreachable: It could not: the port is taken, say; the text says what to do.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise InvalidInput(f"there is no host {host!r} to listen on: give --host an address of this machine") from None
    for family, kind, protocol, _, address in found[:1] if host else found:
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Dask does
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                raise SchedulerUnreachable(
                    f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; "
                    + _REMEDIES.get(error.errno or 0, "take another --host or --port")
                ) from None


def dashboard_place(text: str) -> tuple[str, int]:
    """Host and port of a dashboard's address, such as ``127.0.0.1:8787`` or ``:8787``.

    Raises:
        InvalidInput: It is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"--dashboard {text!r} is no address: write HOST:PORT, such as 127.0.0.1:8787")
    return host, int(port)
