"""The systems of this hub, opened once and shared by all users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

import msgspec

from crestline.client import Policy, PollPolicy, System, connect, find_site
from crestline.client.auth import Authorizer
from crestline.single_flight import SingleFlight


class Connections:
    """Open systems by target and identity; one instance for the process, as for the hub."""

    def __init__(self) -> None:
        # A session calls back when it has started. Lists report its end, and its position in the queue before.
        self.policy = Policy(poll=PollPolicy(min_interval=5.0, unseen_timeout=None))
        self._systems: SingleFlight[Hashable, System] = SingleFlight()

    async def get(self, target: str, authorizer: Authorizer | None = None, host: str = "") -> System:
        """Return the system, opened at the first call.

        Args:
            target: as `SpawnerSettings.system`.
            authorizer: another identity than the hub's own.
            host: another system of that site.

        Raises:
            ConfigError: the site does not exist.
            GatewayUnavailableError: the gateway does not respond; the next call tries again.
        """
        identity = authorizer.identity if authorizer is not None else None
        return await self._get((target, host, identity), target, target, host, authorizer, self.policy)

    async def get_service(self, target: str, service_site: str, host: str = "") -> System:
        """Return the same system as the hub's service account, which sees all users' jobs. Raises as `get`."""
        poll = msgspec.structs.replace(self.policy.poll, all_users=True)
        policy = msgspec.structs.replace(self.policy, poll=poll)
        return await self._get((target, host, service_site), target, service_site, host, None, policy)

    async def _get(
        self, key: Hashable, target: str, site: str, host: str, authorizer: Authorizer | None, policy: Policy
    ) -> System:
        return await self._systems.get(key, lambda: _open(target, site, host, authorizer, policy))

    async def close(self) -> None:
        """Close all systems. A later call opens them again."""
        for system in await self._systems.drain():
            await system.close()


async def _open(target: str, site: str, host: str, authorizer: Authorizer | None, policy: Policy) -> System:
    found, name = find_site(site or None)
    if site != target:
        _, name = find_site(target or None)
    system = connect(msgspec.structs.replace(found, system=host or name), policy=policy, authorizer=authorizer)
    return await system.open()


connections = Connections()
"""The connections of this hub."""

SystemFactory = Callable[[], Awaitable[System]]
"""Opens the system with one identity."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The system of one server, and the identities that can act on its job."""

    target: str
    """As `SpawnerSettings.system`."""
    host: str = ""
    """Another system of that site."""
    login: Authorizer | None = None
    """The user's own identity; None: the one of `target`."""
    service_site: str = ""
    """Site of the service account; empty: none."""

    async def as_user(self) -> System:
        """Open the system as the identity that submits. Raises as `Connections.get`."""
        return await connections.get(self.target, self.login, self.host)

    async def as_service(self) -> System:
        """Open the system as the service account. Raises as `Connections.get`."""
        return await connections.get_service(self.target, self.service_site, self.host)

    async def as_observer(self) -> System:
        """Open the system to watch the job. A service account sees all jobs in one list."""
        return await (self.as_service() if self.service_site else self.as_user())

    @property
    def identities(self) -> list[SystemFactory]:
        """Return all identities, the submitting one first."""
        return [self.as_user, self.as_service] if self.service_site else [self.as_user]
