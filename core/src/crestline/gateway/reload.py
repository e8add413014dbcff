"""Taking up another configuration while serving: systems come, go and change, and so do identity and rules."""

from __future__ import annotations

import logging

import msgspec
from litestar import Litestar

from crestline.gateway.access import build_authenticator, build_authorization
from crestline.gateway.config import GatewayConfig
from crestline.gateway.home import Home
from crestline.gateway.identity.clients import Clients
from crestline.gateway.isolation import check_served_trees, check_shared_account
from crestline.gateway.replicas import Replicas
from crestline.gateway.sharing import share
from crestline.gateway.store import Store
from crestline.gateway.systems import SystemRuntime, Systems, build_system

_TAKEN_UP = frozenset({"systems", "maintenance", "oidc", "openfga", "min_token_ttl", "drain", "deadline"})

_log = logging.getLogger("crestline.reload")


async def apply(app: Litestar, config: GatewayConfig) -> None:
    """Let `app` serve what `config` says.

    Whatever cannot be used leaves all as it was. Requests that are under way end with what they began with.

    Raises:
        CrestlineError: a part of it cannot be used.
    """
    old: GatewayConfig = app.state.config
    later = [name for name in config.__struct_fields__ if getattr(config, name) != getattr(old, name)]
    later = [name for name in later if name not in _TAKEN_UP]
    if later:
        _log.warning("changes of %s count from the next start on", ", ".join(later))
    config = msgspec.structs.replace(config, **{name: getattr(old, name) for name in later})
    home, store = Home(config.home), app.state.store
    await share(config, home, store)
    check_served_trees(config)
    check_shared_account(config, {each.username for each in await Clients(store).list()})
    authenticator = build_authenticator(config, app.state.issuer, app.state.api_keys, app.state.authenticator)
    authorization = build_authorization(config)
    changed = [name for name, system in config.systems.items() if old.systems.get(name) != system]
    built = [_build(app, config, name, home, store) for name in changed]
    stopped: list[str] = []
    try:
        await _start(app.state.systems, built, stopped)
    except BaseException:
        for name in stopped:
            _log.warning("%s is served again as it was", name)
            before = _build(app, old, name, home, store)
            await before.start()
            app.state.systems.put(before)
        raise
    _exchange(app.state.systems, built, config)
    app.state.authenticator = authenticator
    app.state.authorization, before_authorization = authorization, app.state.authorization
    app.state.config = config
    await before_authorization.close()
    gone = sorted(old.systems.keys() - config.systems.keys())
    for name in (*changed, *gone):
        app.state.health.renew(name)
    _log.info(
        "configuration taken up; systems changed: %s; gone: %s", ", ".join(changed) or "-", ", ".join(gone) or "-"
    )


def _build(app: Litestar, config: GatewayConfig, name: str, home: Home, store: Store) -> SystemRuntime:
    replicas: Replicas = app.state.replicas
    return build_system(name, config.systems[name], home, store, app.state.public_url, replicas)


async def _start(systems: Systems, built: list[SystemRuntime], stopped: list[str]) -> None:
    """Start all of them or none; `stopped` names the systems that had to make way for one."""
    started: list[SystemRuntime] = []
    try:
        for system in built:
            if system.scheduler.is_exclusive:
                await systems.hasten(system.name)
                if (before := systems.find(system.name)) is not None:
                    systems.pause(before)
                    stopped.append(before.name)
                    await before.stop()
            started.append(system)
            await system.start()
    except BaseException:
        for system in started:
            await system.stop()
        raise


def _exchange(systems: Systems, built: list[SystemRuntime], config: GatewayConfig) -> None:
    for system in built:
        if (before := systems.find(system.name)) is not None:
            systems.retire(before, config.drain.limit)
        systems.put(system)
    names = {name.lower() for name in config.systems}
    for system in list(systems):
        if system.name.lower() not in names:
            systems.retire(system, config.drain.limit)
