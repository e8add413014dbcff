"""The gateway's own certificate authority. sshd trusts its public key (`TrustedUserCAKeys`) and needs no user keys."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import asyncssh

from crestline.gateway.hosts.ssh.credentials.base import Credentials, Identity
from crestline.gateway.hosts.ssh.credentials.user_keys import read_private_key

_ALGORITHM = "ssh-ed25519"
_CLOCK_SKEW = 60


class CertificateAuthority(Credentials):
    """Signs a fresh key at every login, for one user and a few minutes.

    The certificate allows only commands and SFTP: no terminal, no forwarding, no `~/.ssh/rc`.

    Args:
        key_file: the authority's private key, mode 0600; see `create`.
        lifetime: lifetime of a certificate in seconds.
        source_address: addresses or networks from which certificates can be used; empty: any.
    """

    def __init__(self, key_file: Path, *, lifetime: int = 300, source_address: tuple[str, ...] = ()) -> None:
        self._authority = read_private_key(key_file, "the certificate authority")
        self._lifetime = lifetime
        self._source_address = source_address

    @property
    def public_key(self) -> str:
        """The line for sshd's `TrustedUserCAKeys` file."""
        return self._authority.export_public_key().decode().strip()

    @staticmethod
    def create(key_file: Path) -> None:
        """Create the private key of a new authority, unless the file exists.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "wb") as file:
            key = asyncssh.generate_private_key(_ALGORITHM, comment="crestline user certificate authority")
            file.write(key.export_private_key())

    async def credentials(self, user: str) -> Identity:
        key = asyncssh.generate_private_key(_ALGORITHM)
        now = int(time.time())
        certificate = self._authority.generate_user_certificate(
            key,
            key_id=f"crestline:{user}",
            serial=secrets.randbits(63),
            principals=[user],
            valid_after=now - _CLOCK_SKEW,
            valid_before=now + self._lifetime,
            source_address=self._source_address or None,
            permit_x11_forwarding=False,
            permit_agent_forwarding=False,
            permit_port_forwarding=False,
            permit_pty=False,
            permit_user_rc=False,
        )
        return Identity(key, certificate, now + self._lifetime)
