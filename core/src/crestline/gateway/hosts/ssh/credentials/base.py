"""The interface of sources of SSH credentials."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

import asyncssh


@dataclass(frozen=True)
class Identity:
    """Key and certificate of a login."""

    key: asyncssh.SSHKey = field(repr=False)
    certificate: asyncssh.SSHCertificate | None = field(default=None, repr=False)
    expires: float | None = None
    """Seconds since the epoch after which a connection is not used for new commands."""


class Credentials(abc.ABC):
    """A source of users' private keys."""

    @abc.abstractmethod
    async def credentials(self, user: str) -> Identity:
        """Return the identity for a login as `user`, a checked POSIX user name. Called for every login.

        Raises:
            PermissionDeniedError: the user has no credentials.
            AuthenticationError: the caller's token is not sufficient.
            GatewayUnavailableError: the source does not respond.
            ConfigError: the site's configuration is wrong.
        """

    async def close(self) -> None:
        """Close connections to other services."""
