"""What clients of both kinds are made of: the scheduler's address, its certificates, and how a call is answered."""

from __future__ import annotations

import getpass
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from distributed import Security

from swarm.blocking import wait_for
from swarm.client.connection import Connection
from swarm.config import settings
from swarm.errors import InvalidInput
from swarm.manners.users_dask import Named, users_dask

T = TypeVar("T")
Coming = Coroutine[Any, Any, T]  # what an asynchronous client gives: await it


class BaseClient:
    """What clients of both kinds are made of. (Type checkers take ``__new__`` for the constructor of a class only if
    its ``__init__`` is inherited.)
    """

    def __init__(
        self,
        address: Named | None = None,
        *,
        asynchronous: bool = False,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> None:
        named = address or settings().scheduler_address
        if named is None:
            raise InvalidInput("give the scheduler's address, tcp://host:8786, or set DASK_SCHEDULER_ADDRESS")
        users = users_dask(named, beside=not asynchronous)
        self.address: str = users.address
        self.asynchronous = asynchronous
        arguments = (security or users.security or Security()).get_connection_args("client")
        if self.address.startswith("tls://") and arguments["ssl_context"] is None:
            raise InvalidInput(
                f"{self.address} speaks TLS, but you have no certificate: set Dask's distributed.comm.tls.ca-file, "
                "distributed.comm.tls.client.cert and distributed.comm.tls.client.key (DASK_CONFIG=…/tls.yaml)"
            )
        seconds = settings().client_patience_seconds if patience is None else float(patience)
        self._connection = Connection(self.address, user or getpass.getuser(), arguments, seconds)

    def __repr__(self) -> str:
        return f"<swarm.Client {self.address}>"

    def __enter__(self) -> Self:
        if self.asynchronous:
            raise TypeError("with an asynchronous client: async with Client(…, asynchronous=True) as client")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        """Nothing is left to close: every call opens a connection and closes it."""

    def _then(self, work: Coming[T]) -> T:
        """The answer, or in an asynchronous client what to await for it, as :class:`AsyncClient` has the types say."""
        return work if self.asynchronous else wait_for(lambda: work)  # type: ignore[return-value]
