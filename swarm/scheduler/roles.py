"""Who may ask the scheduler for what, told by the name in the certificate of the other end.

``deploy/make-certificates`` names the certificates of the service's own processes, those of earlier versions, too:
``swarm-scheduler``, ``swarm-master``, ``swarm-worker``. Every other name is a user's. Without TLS nobody can be told
from anybody else, and all may do everything.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from swarm.service.protocol import MASTER

SCHEDULER, WORKER = "swarm-scheduler", "swarm-worker"
FOR_USERS = frozenset({"swarm_hello", "swarm_role", "swarm_call", "swarm_states", "swarm_slots"})
"""Requests of users: the handlers of the service that are for clients."""
FOR_MASTERS = frozenset({"swarm_attach", "swarm_beat", "swarm_stand_by", "swarm_take", "swarm_reply", "swarm_publish"})
"""Requests for which one must be the master, or the scheduler's own process."""
TO_JOIN = frozenset({"register-worker", "register_nanny"})
"""Requests of who becomes part of the cluster."""
FOR_WORKERS = frozenset(
    {
        "swarm_hello",
        "swarm_role",
        *TO_JOIN,
        "unregister",
        "heartbeat_worker",
        "retire_workers",  # how Dask's worker says that it goes
        "log_event",
        "who_has",
    }
)
"""Requests of worker processes and their nannies."""
FROM_WORKERS = frozenset(
    {
        "task-finished",
        "task-erred",
        "release-worker-data",
        "add-keys",
        "long-running",
        "reschedule",
        "keep-alive",
        "log-event",
        "worker-status-change",
        "request-refresh-who-has",
        "steal-response",
        "close-stream",
    }
)
"""What a registered worker tells in its stream."""
EVENTS = frozenset({"log-event", "log_event"})  # whose content is handed on to those who listen
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Role(Enum):
    """What a certificate is for.

    Attributes:
        SCHEDULER: The scheduler's own process and whoever shares its key: may do everything.
        MASTER: Takes office, receives results, has trainings run: may do everything but register workers.
        WORKER: Registers slots, and tells what became of trainings.
        USER: Submits jobs, looks at them, steers his own.
    """

    SCHEDULER = "scheduler"
    MASTER = "master"
    WORKER = "worker"
    USER = "user"

    @property
    def trusted(self) -> bool:
        """Whether what it sends may be unpickled, and it may do the master's work."""
        return self in (Role.SCHEDULER, Role.MASTER)

    def may_ask(self, operation: Any) -> bool:
        """Whether it may make this request."""
        if self.trusted:
            return self is Role.SCHEDULER or operation not in TO_JOIN
        return operation in (FOR_WORKERS if self is Role.WORKER else FOR_USERS)


def name_in(certificate: Mapping[str, Any] | None) -> str | None:
    """The common name in a certificate; empty if it has none or several, None without a certificate."""
    if certificate is None:
        return None
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


def role_of(name: str | None) -> Role:
    """The role of whoever has a certificate of that name."""
    return {SCHEDULER: Role.SCHEDULER, MASTER: Role.MASTER, WORKER: Role.WORKER}.get(name or "", Role.USER)


def refusal(role: Role, name: str | None, operation: Any) -> str:
    """Why somebody may not do what he asked for, and what he can do instead."""
    who = f"the certificate {name!r} is a {role.value}'s"
    if operation in TO_JOIN:
        return f"{who}: only the holder of the certificate {WORKER!r} may register workers"
    if operation in FOR_MASTERS:
        return f"{who}: only the holder of the certificate {MASTER!r} may be the master"
    if role is Role.WORKER:
        return f"{who}, and may not ask the scheduler for {str(operation)[:60]!r}"
    return f"{who}: users submit jobs, swarm submit JOB.yaml, and may not ask for {str(operation)[:60]!r}"


def own_certificate(security: Any, end: str) -> bytes | None:
    """The certificate, DER, that Dask shows for ``scheduler`` or ``worker``; None without TLS."""
    given = security.get_tls_config_for_role(end)["cert"]
    if not given:
        return None
    found = _PEM.search(given if "\n" in given else Path(given).read_text(encoding="utf-8"))
    return ssl.PEM_cert_to_DER_cert(found[0]) if found else None
