"""The parts of one gateway from its start to its end, and the reload of the configuration."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import msgspec

from crestline.gateway.access import build_api_keys, build_authenticator, build_authorization
from crestline.gateway.audit import AuditTrail, FailedSignIns
from crestline.gateway.authorization import Authorization
from crestline.gateway.bootstrap_client import ensure_bootstrap_client
from crestline.gateway.config import GatewayConfig
from crestline.gateway.health import Health
from crestline.gateway.identity import Principal
from crestline.gateway.identity.api_keys import ApiKeys
from crestline.gateway.identity.authentication import Authenticator
from crestline.gateway.identity.clients import Clients
from crestline.gateway.identity.issuer import Issuer
from crestline.gateway.identity.keys import signing_key
from crestline.gateway.iri import Facility, FileTasks
from crestline.gateway.isolation import check_served_trees, check_shared_account, check_shared_user
from crestline.gateway.rate_limits import UserRates
from crestline.gateway.readiness import Readiness
from crestline.gateway.replicas import Replicas
from crestline.gateway.shared_secrets import sync_secrets
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.gateway.systems import SystemRegistry, SystemRuntime, build_system, build_systems
from crestline.gateway.user_shares import UserShares
from crestline.relay.server import Relay
from crestline.wire.extensions import Scope

_TAKEN_UP = frozenset(
    {"systems", "maintenance", "oidc", "openfga", "min_token_ttl", "drain", "deadline", "rate_limits"}
)

_log = logging.getLogger("crestline.runtime")


class _Part(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


P = TypeVar("P", bound=_Part)


class GatewayRuntime:
    """The parts of one gateway. All but the first three exist only within `run`."""

    config: GatewayConfig
    public_url: Callable[[], str]
    """Returns the base of every URL that leaves the gateway."""
    relay: Relay
    state_dir: StateDirectory
    store: Store
    issuer: Issuer
    api_keys: ApiKeys
    authenticator: Authenticator
    authorization: Authorization
    replicas: Replicas
    audit: AuditTrail
    sign_ins: FailedSignIns
    systems: SystemRegistry
    readiness: Readiness
    health: Health
    facility: Facility
    file_tasks: FileTasks
    started: float
    """Seconds since the epoch."""
    drain_time: float = 0.0
    """Seconds for running transfers at the end."""

    def __init__(self, config: GatewayConfig, public_url: Callable[[], str] | None = None) -> None:
        """`public_url`: called each time a URL is built; None: use the configured one, which is then required."""
        self.config = config
        self.public_url = public_url or (lambda: config.public_url or "")
        self.relay = Relay(config.relay)
        self.rates = UserRates(config.rate_limits)
        self.answers = UserShares(32, 8)
        """Responses that are in memory as a whole, each until its client has received it."""

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Start every part. At the end, or when a later one fails, stop each in reverse order.

        Raises:
            CrestlineError: a part cannot start.
        """
        config = self.config
        async with AsyncExitStack() as stack:
            self.state_dir = StateDirectory(config.state_dir)
            self.state_dir.create()
            self.store = await Store.open(config.database or self.state_dir.database)
            stack.push_async_callback(self.store.close)
            await sync_secrets(config, self.state_dir, self.store)
            self.clients = Clients(self.store)
            await ensure_bootstrap_client(self.state_dir, self.clients)
            self.issuer = Issuer(signing_key(self.state_dir), self.state_dir.identifier(), self.clients, config.issuer)
            self.api_keys = build_api_keys(config, self.store)
            self.authenticator = build_authenticator(config, self.issuer, self.api_keys)
            self.authorization = build_authorization(config)
            stack.push_async_callback(self._close_authorization)
            self.replicas = Replicas(self.store)
            self.systems = build_systems(config, self.state_dir, self.store, self.public_url, self.replicas)
            await self._check_isolation(config)
            await _start(stack, self.replicas)
            self.audit = await _start(stack, AuditTrail(self.store, config.audit))
            self.sign_ins = FailedSignIns(self.audit, config.issuer.max_failures)
            stack.push_async_callback(lambda: self.systems.close(self.drain_time))
            for system in self.systems:
                await system.start()
            self.readiness = Readiness(self.store)
            stack.push_async_callback(self.readiness.close)
            self.health = await _start(stack, Health(self.systems))
            self.facility = Facility(
                self.state_dir.identifier(), lambda: self.config, self.systems, self.health, self.public_url
            )
            self.file_tasks = FileTasks()
            stack.push_async_callback(self.file_tasks.stop)
            await _start(stack, self.relay)
            self.started = time.time()
            yield

    async def reload(self, config: GatewayConfig) -> None:
        """Switch to another configuration.

        If a part of it cannot be used, nothing changes. Running requests end with the previous configuration.

        Raises:
            CrestlineError: a part of it cannot be used.
        """
        old = self.config
        later = [name for name in config.__struct_fields__ if getattr(config, name) != getattr(old, name)]
        later = [name for name in later if name not in _TAKEN_UP]
        if later:
            _log.warning("changes of %s count from the next start on", ", ".join(later))
        config = msgspec.structs.replace(config, **{name: getattr(old, name) for name in later})
        await sync_secrets(config, self.state_dir, self.store)
        check_served_trees(config)
        await self._check_isolation(config)
        authenticator = build_authenticator(config, self.issuer, self.api_keys, self.authenticator)
        changed = [name for name, system in config.systems.items() if old.systems.get(name) != system]
        async with AsyncExitStack() as undo:
            authorization = build_authorization(config)
            undo.push_async_callback(authorization.close)
            built = [self._build(config, name) for name in changed]
            for system in built:
                if system.scheduler.is_exclusive:
                    await self._stop_existing(system.name, undo)
                undo.push_async_callback(system.stop)
                await system.start()
            undo.pop_all()
        self.systems.exchange(built, config.systems, config.drain.timeout)
        self.authenticator = authenticator
        self.authorization, before = authorization, self.authorization
        if config.rate_limits != old.rate_limits:
            self.rates = UserRates(config.rate_limits)
        self.config = config
        await before.close()
        gone = sorted(old.systems.keys() - config.systems.keys())
        for name in (*changed, *gone):
            self.health.renew(name)
        _log.info(
            "configuration taken up; systems changed: %s; gone: %s", ", ".join(changed) or "-", ", ".join(gone) or "-"
        )

    async def check_again(self, caller: Principal, scope: Scope, system: SystemRuntime) -> None:
        """Refuse to continue an earlier request if its caller could not make it now.

        Raises:
            AuthenticationError: the credential was revoked, or its client or provider removed.
            PermissionDeniedError: the user may no longer do this on the system.
            GatewayUnavailableError: the permission cannot be checked at present.
        """
        caller = await self.authenticator.check(caller)
        await self.authorization.check(caller, scope, system.name)
        check_shared_user(self.config, system.config, caller.username)
        await system.check_user(caller)

    async def _check_isolation(self, config: GatewayConfig) -> None:
        check_shared_account(config, {each.username for each in await Clients(self.store).list()})

    async def _close_authorization(self) -> None:
        await self.authorization.close()  # a reload may have replaced the first one

    def _build(self, config: GatewayConfig, name: str) -> SystemRuntime:
        return build_system(name, config.systems[name], self.state_dir, self.store, self.public_url, self.replicas)

    async def _stop_existing(self, name: str, undo: AsyncExitStack) -> None:
        """Stop the system with this name, and let `undo` start it again."""
        await self.systems.stop_retired(name)
        if (before := self.systems.find(name)) is not None:
            self.systems.suspend(before)
            undo.push_async_callback(self._restore, before.name)
            await before.stop()

    async def _restore(self, name: str) -> None:
        _log.warning("%s is served again as it was", name)
        system = self._build(self.config, name)
        await system.start()
        self.systems.add(system)


async def _start(stack: AsyncExitStack, part: P) -> P:
    """Start a part that `stack` stops, also if it has started only partly."""
    stack.push_async_callback(part.stop)
    await part.start()
    return part
