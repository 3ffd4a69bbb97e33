"""Who may talk to the ports of workers and their nannies, where Dask runs whatever it is sent.

With TLS those are the scheduler, the master and other workers, told by the names that ``deploy/make-certificates``
gives their certificates. Everybody else is hung up on before a byte of his is read.
"""

from __future__ import annotations

import logging
import re
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed.comm.tcp import TLS

WORKER = "swarm-worker"
_SERVICE = {WORKER, "swarm-scheduler", "swarm-master"}
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_log = logging.getLogger("swarm.workers")


def dask_setup(server: Any) -> None:
    """What Dask runs when it loads this module into a nanny."""
    guard(server)


def guard(server: Any) -> None:
    """Have a worker or a nanny listen to the service alone, if it speaks TLS.

    Where this machine's certificate has another name than ``swarm-worker``, the cluster is not one of the service's,
    and its certificates say nothing of roles: then whoever has one is let in, as Dask has it.

    Args:
        server: It listens already, and has answered nobody yet.
    """
    from distributed.comm.tcp import TLSListener

    given = server.security.get_tls_config_for_role("worker")["cert"]
    for listener in server.listeners:
        if isinstance(listener, TLSListener):
            text = given if "\n" in given else Path(given).read_text(encoding="utf-8")
            listener.comm_class = partial(_guarded, text)


def _guarded(own: str, stream: Any, *arguments: Any, **options: Any) -> TLS:
    """The connection; it is closed already if the other end has no business here."""
    from distributed.comm.tcp import TLS

    line = TLS(stream, *arguments, **options)
    if not belongs(stream.socket, own):
        _log.warning("hung up on %s: only the service's own certificates are let in here", line.peer_address)
        line.abort()
    return line


def belongs(line: Any, own: str) -> bool:
    """Whether the other end of an encrypted line is the service's.

    Args:
        line: An ``ssl.SSLSocket`` whose handshake is over.
        own: This end's certificate, PEM.
    """
    found = _PEM.search(own)
    if found is not None and line.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(found[0]):
        return True
    shown = {value for part in line.getpeercert()["subject"] for key, value in part if key == "commonName"}
    return (len(shown) == 1 and shown <= _SERVICE) or WORKER not in _names(own)


def _names(certificate: str) -> set[str]:
    from cryptography import x509

    subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    return {str(part.value) for part in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
