"""Certificates that last as long as a process: nobody else on the machine can talk to the cluster that it embeds."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Security

_NAME = "swarm-scheduler"  # whoever has it is the scheduler: it never leaves this process and its workers
_DAYS = 365


def temporary() -> Security:
    """A key and a certificate of this moment, in memory alone, for all ends of a cluster of our own.

    Dask's ``Security.temporary`` makes an RSA key, which takes a fifth of a second; an elliptic one takes some
    milliseconds.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from distributed import Security

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # a clock that is set back must not end the run
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    ends = ("client", "scheduler", "worker")
    files = {f"tls_{end}_cert": public for end in ends} | {f"tls_{end}_key": private for end in ends}
    return Security(require_encryption=True, tls_ca_file=public, **files)
