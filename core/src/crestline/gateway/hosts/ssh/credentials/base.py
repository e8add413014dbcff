"""The interface behind which every source of SSH credentials stands."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

import asyncssh


@dataclass(frozen=True)
class Identity:
    """What one login shows to the server."""

    key: asyncssh.SSHKey = field(repr=False)
    certificate: asyncssh.SSHCertificate | None = field(default=None, repr=False)
    expires: float | None = None
    """seconds since the epoch; a connection is not used for anything new after that"""


class Credentials(abc.ABC):
    """Where the private keys of users come from."""

    @abc.abstractmethod
    async def credentials(self, user: str) -> Identity:
        """The identity for a login as `user`, a POSIX user name that was checked; asked for at every login.

        Raises:
            PermissionDeniedError: there is none for this user.
            AuthenticationError: the caller's token does not suffice.
            GatewayUnavailableError: who could tell does not answer.
            ConfigError: the site's set-up is wrong.
        """

    async def close(self) -> None:
        """Close connections to other services."""
