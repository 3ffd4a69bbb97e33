"""A Dask scheduler as its users name it: by its address, by their own client of it, or by their cluster.

Client and cluster are looked at, and stay the user's: what talks to the scheduler for us is a client of our own, in an
event loop of its own, so that neither is changed or closed by a run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from swarm.errors import InvalidInput

_ENDED = ("closed", "closing", "failed")


class DaskCluster(Protocol):
    """A cluster of Dask's: ``LocalCluster``, ``SpecCluster``, those of dask-jobqueue, ``LocalCUDACluster``, …"""

    @property
    def scheduler_address(self) -> str:
        """The address of its scheduler."""
        ...


class DaskClient(Protocol):
    """A :class:`distributed.Client`."""

    @property
    def scheduler(self) -> Any:
        """Talks to the scheduler, whose ``address`` it has."""
        ...


Named: TypeAlias = str | DaskClient | DaskCluster


@dataclass(frozen=True)
class UsersDask:
    """A scheduler that a user has named.

    Attributes:
        address: Its address.
        security: The certificates of the client or cluster; None takes Dask's configuration.
        cluster: The user's cluster, if it is known.
    """

    address: str
    security: Any = None
    cluster: Any = None

    @property
    def scales(self) -> bool | None:
        """Whether the cluster starts more workers by itself, or has some on their way; None if that is not known."""
        cluster = self.cluster
        if cluster is None:
            return None
        adaptive = getattr(cluster, "_adaptive", None)
        if adaptive is not None and getattr(adaptive, "periodic_callback", None) is not None:
            return True
        with contextlib.suppress(Exception):  # some clusters have no such notion
            return bool(cluster.plan - cluster.observed)
        return hasattr(cluster, "adapt")  # one that is managed elsewhere, as a gateway's is


def checked_address(text: str) -> str:
    """The text, if a scheduler could have that address; Dask alone knows with what it may begin.

    Raises:
        InvalidInput: None could.
    """
    scheme, _, place = text.strip().rpartition("://")
    if scheme == "inproc":
        return text.strip()
    wanted = "a scheduler's address is tcp://HOST:PORT, such as tcp://127.0.0.1:8786"
    if scheme.startswith("http"):
        raise InvalidInput(f"{text!r} is the address of a page: {wanted}, as swarm scheduler says when it starts")
    host, colon, port = place.rpartition(":")
    if not colon or not host or (host.startswith("[") != host.endswith("]")):
        raise InvalidInput(f"{text!r} names no port: {wanted}" if place else f"there is no address: {wanted}")
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InvalidInput(f"{text!r} has no such port as {port!r}: {wanted}")
    return text.strip()


def users_dask(named: Named, *, beside: bool = True) -> UsersDask:
    """The scheduler that an address, a client or a cluster stands for.

    Args:
        named: One of these.
        beside: The caller's event loop stands still while we talk to the scheduler.

    Raises:
        InvalidInput: It is none of these, no address of a scheduler, or closed, or asynchronous.
    """
    if isinstance(named, str):
        return UsersDask(checked_address(named))
    if isinstance(named, type) or not (hasattr(named, "scheduler_address") or _is_client(named)):
        raise InvalidInput(
            "a scheduler is given by its address, tcp://HOST:8786, by a distributed.Client, or by a cluster such as "
            f"LocalCluster(…), not by {_what(named)}"
        )
    if beside and getattr(named, "asynchronous", False):
        raise InvalidInput(
            f"this {type(named).__name__} is asynchronous, and its event loop would stand still while we wait for it: "
            f"give its address, which another process serves, or one that was made without asynchronous=True"
        )
    client, cluster = (named, getattr(named, "cluster", None)) if _is_client(named) else (None, named)
    address = _address(client, cluster)
    if address is None or _status(named) in _ENDED:
        raise InvalidInput(f"this {type(named).__name__} is closed, or not connected to a scheduler: make another one")
    security = getattr(named, "security", None)
    return UsersDask(address, security or getattr(cluster, "security", None), cluster)


def _is_client(named: Any) -> bool:
    """Whether it is a client: what has a scheduler to talk to, and futures of it."""
    return hasattr(named, "scheduler") and hasattr(named, "futures")


def _address(client: Any, cluster: Any) -> str | None:
    found = None
    with contextlib.suppress(Exception):  # of what is closed
        found = client.scheduler.address if client is not None else cluster.scheduler_address
    return found if isinstance(found, str) and "://" in found else None


def _status(named: Any) -> str:
    status = getattr(named, "status", "")
    return str(getattr(status, "name", status))


def _what(named: Any) -> str:
    kind = named if isinstance(named, type) else type(named)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"the class {name}" if named is kind else f"a value of the class {name}"
