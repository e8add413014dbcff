"""The application, composed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware

from crestline.gateway.access import build_api_keys, build_authenticator, build_authorization
from crestline.gateway.audit import Audited, AuditTrail, FailedSignIns
from crestline.gateway.config import GatewayConfig
from crestline.gateway.deadline import Deadline
from crestline.gateway.envelope import Envelope
from crestline.gateway.errors import (
    handle_crestline_error,
    handle_http_exception,
    handle_unexpected,
)
from crestline.gateway.first_client import ensure_first_client
from crestline.gateway.health import Health
from crestline.gateway.home import Home
from crestline.gateway.identity.clients import Clients
from crestline.gateway.identity.issuer import Issuer
from crestline.gateway.identity.keys import signing_key
from crestline.gateway.isolation import check_shared_account
from crestline.gateway.openapi import assets_router, describe_errors, openapi_config
from crestline.gateway.readiness import Readiness
from crestline.gateway.relay import WithRelay
from crestline.gateway.replicas import Replicas
from crestline.gateway.requests import Authentication, GatewayRequest, provide_caller, provide_system
from crestline.gateway.routes import compute, content, filesystem, keys, oauth, page, status, transfers
from crestline.gateway.sharing import share
from crestline.gateway.store import Store
from crestline.gateway.systems import Systems, build_systems
from crestline.model import CrestlineError
from crestline.relay.server import Relay


def create_app(config: GatewayConfig, public_url: Callable[[], str] | None = None) -> Litestar:
    """The gateway as an ASGI application; what it needs is made and started in its lifespan.

    Args:
        public_url: base of every URL that leaves the gateway, asked for when one is built; defaults to the configured
            one, which must be there then.
    """
    app = Litestar(
        route_handlers=[
            status.router,
            compute.router,
            filesystem.router,
            content.router,
            transfers.router,
            keys.router,
            oauth.router,
            page.router,
            assets_router(),
        ],
        request_class=GatewayRequest,
        dependencies={
            "caller": Provide(provide_caller, sync_to_thread=False),
            "system": Provide(provide_system, sync_to_thread=False),
        },
        middleware=[Deadline, DefineMiddleware(Authentication, exclude="^/docs", exclude_from_auth_key="public")],
        exception_handlers={
            CrestlineError: handle_crestline_error,
            HTTPException: handle_http_exception,
            Exception: handle_unexpected,
        },
        lifespan=[_lifespan],
        state=State({"config": config, "public_url": public_url or (lambda: config.public_url)}),
        openapi_config=openapi_config(_prefix(public_url() if public_url else config.public_url)),
        logging_config=None,
        request_max_body_size=config.max_body_size,
    )
    describe_errors(app)
    app.asgi_handler = Envelope(Audited(app.asgi_handler, app))
    app.state.relay = Relay(config.relay)
    if config.relay.hubs:
        app.asgi_handler = WithRelay(app.asgi_handler, app.state.relay)
    return app


def _prefix(public_url: str | None) -> str:
    return urlsplit(public_url or "").path.rstrip("/")


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    config: GatewayConfig = app.state.config
    home = Home(config.home)
    home.create()
    async with AsyncExitStack() as stack:  # whatever fails, what was opened before it is closed
        store = await Store.open(config.database or home.database)
        stack.push_async_callback(store.close)
        await share(config, home, store)
        replicas = Replicas(store)
        stack.push_async_callback(replicas.stop)
        clients = Clients(store)
        await ensure_first_client(home, clients)
        key = signing_key(home)
        issuer = Issuer(key, home.identifier(), clients, config.issuer)
        authorization = build_authorization(config)
        stack.push_async_callback(authorization.close)
        audit = AuditTrail(store, config.audit)
        stack.push_async_callback(audit.stop)
        check_shared_account(config, {each.username for each in await clients.list()})
        systems = build_systems(config, home, store, app.state.public_url, replicas)
        stack.push_async_callback(_close_systems, app, systems)
        readiness = Readiness(store)
        stack.push_async_callback(readiness.close)
        health = Health(systems)
        stack.push_async_callback(health.stop)
        api_keys = build_api_keys(config, store)
        app.state.update(
            {
                "store": store,
                "replicas": replicas,
                "readiness": readiness,
                "issuer": issuer,
                "sign_ins": FailedSignIns(audit, config.issuer.max_failures),
                "authenticator": build_authenticator(config, issuer, api_keys),
                "api_keys": api_keys,
                "authorization": authorization,
                "audit": audit,
                "systems": systems,
                "health": health,
                "started": time.time(),
            }
        )
        stack.push_async_callback(app.state.relay.stop)
        await app.state.relay.start()
        await replicas.start()
        await audit.start()
        for system in systems:
            await system.start()
        await health.start()
        yield


async def _close_systems(app: Litestar, systems: Systems) -> None:
    await systems.close(app.state.get("patience", 0.0))
