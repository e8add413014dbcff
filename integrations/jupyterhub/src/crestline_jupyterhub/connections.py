"""The systems that this hub talks to: opened once and shared by all users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

import msgspec

from crestline.client import Policy, PollPolicy, System, connect, find_site
from crestline.client.auth import Authorizer
from crestline.single_flight import SingleFlight


class Connections:
    """Open systems by target and identity; one for the process, as the hub is."""

    def __init__(self) -> None:
        # A session calls back by itself once it is up; lists tell of its end, and of the queue meanwhile.
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
            GatewayUnavailableError: no answer; the next call tries again.
        """
        identity = authorizer.identity if authorizer is not None else None
        return await self._get((target, host, identity), target, target, host, authorizer, self.policy)

    async def get_service(self, target: str, service_site: str, host: str = "") -> System:
        """Return the same system as the hub's service account sees it: with all users' jobs. Raises as `get`."""
        poll = msgspec.structs.replace(self.policy.poll, all_users=True)
        policy = msgspec.structs.replace(self.policy, poll=poll)
        return await self._get((target, host, service_site), target, service_site, host, None, policy)

    async def _get(
        self, key: Hashable, target: str, site: str, host: str, authorizer: Authorizer | None, policy: Policy
    ) -> System:
        return await self._systems.get(key, lambda: _open(target, site, host, authorizer, policy))

    async def close(self) -> None:
        """Close all systems; a later call opens them anew."""
        for system in await self._systems.drain():
            await system.close()


async def _open(target: str, site: str, host: str, authorizer: Authorizer | None, policy: Policy) -> System:
    found, name = find_site(site or None)
    if site != target:
        _, name = find_site(target or None)
    system = connect(msgspec.structs.replace(found, system=host or name), policy=policy, authorizer=authorizer)
    return await system.open()


connections = Connections()
"""of this hub"""

SystemFactory = Callable[[], Awaitable[System]]
"""Opens the system with one identity."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The system of one server, and the identities that may act on its job."""

    target: str
    """as `SpawnerSettings.system`"""
    host: str = ""
    """another system of that site"""
    login: Authorizer | None = None
    """the user's own identity; None: the one that `target` names"""
    service_site: str = ""
    """site of the service account; empty: there is none"""

    async def as_user(self) -> System:
        """Open the system as the identity that submits. Raises as `Connections.get`."""
        return await connections.get(self.target, self.login, self.host)

    async def as_service(self) -> System:
        """Open the system as the service account. Raises as `Connections.get`."""
        return await connections.get_service(self.target, self.service_site, self.host)

    async def as_observer(self) -> System:
        """Open the system to watch the job; the service account, where there is one, sees all jobs in one list."""
        return await (self.as_service() if self.service_site else self.as_user())

    @property
    def identities(self) -> list[SystemFactory]:
        """All identities, the submitting one first."""
        return [self.as_user, self.as_service] if self.service_site else [self.as_user]
