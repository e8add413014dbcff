"""The application, composed."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware

from crestline.gateway.config import GatewayConfig
from crestline.gateway.envelope import Envelope
from crestline.gateway.errors import (
    handle_crestline_error,
    handle_http_exception,
    handle_unexpected,
)
from crestline.gateway.health import Health
from crestline.gateway.home import Home, write_private
from crestline.gateway.identity.clients import Clients
from crestline.gateway.identity.issuer import Issuer
from crestline.gateway.identity.keys import OwnKeys, signing_key
from crestline.gateway.identity.oidc import ProviderKeys
from crestline.gateway.identity.tokens import TokenVerifier, TrustedIssuer
from crestline.gateway.openapi import assets_router, describe_errors, openapi_config
from crestline.gateway.requests import BearerAuthentication, GatewayRequest, provide_caller, provide_system
from crestline.gateway.routes import compute, content, filesystem, oauth, page, status, transfers
from crestline.gateway.store import Store
from crestline.gateway.systems import build_systems
from crestline.model import CrestlineError

FIRST_CLIENT = "local-client"


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
            oauth.router,
            page.router,
            assets_router(),
        ],
        request_class=GatewayRequest,
        dependencies={
            "caller": Provide(provide_caller, sync_to_thread=False),
            "system": Provide(provide_system, sync_to_thread=False),
        },
        middleware=[DefineMiddleware(BearerAuthentication, exclude="^/docs", exclude_from_auth_key="public")],
        exception_handlers={
            CrestlineError: handle_crestline_error,
            HTTPException: handle_http_exception,
            Exception: handle_unexpected,
        },
        lifespan=[_lifespan],
        state=State({"config": config, "public_url": public_url or (lambda: config.public_url)}),
        openapi_config=openapi_config(),
        logging_config=None,
        request_max_body_size=config.max_body_size,
    )
    describe_errors(app)
    app.asgi_handler = Envelope(app.asgi_handler)
    return app


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    config: GatewayConfig = app.state.config
    home = Home(config.home)
    home.create()
    store = await Store.open(home.database)
    clients = Clients(store)
    await _ensure_first_client(home, clients)
    key = signing_key(home)
    issuer = Issuer(key, home.identifier(), clients, config.issuer)
    systems = build_systems(config, home, store, app.state.public_url)
    health = Health(systems)
    app.state.update(
        {
            "issuer": issuer,
            "verifier": TokenVerifier(_trusted_issuers(issuer, config), min_ttl=config.min_token_ttl),
            "systems": systems,
            "health": health,
            "started": time.time(),
        }
    )
    try:
        for system in systems:
            await system.start()
        await health.start()
        yield
    finally:
        await health.stop()
        for system in systems:
            await system.stop()
        await store.close()


def _trusted_issuers(issuer: Issuer, config: GatewayConfig) -> list[TrustedIssuer]:
    own = TrustedIssuer(name=issuer.name, audience=issuer.audience, keys=OwnKeys(issuer.key))
    return [
        own,
        *(
            TrustedIssuer(
                name=each.issuer,
                audience=each.audience,
                keys=ProviderKeys(each.issuer, ca_file=each.ca_file),
                username_claim=each.username_claim,
            )
            for each in config.oidc
        ),
    ]


async def _ensure_first_client(home: Home, clients: Clients) -> None:
    """A client that acts as the user who runs the gateway; its secret is kept in `client.json`."""
    if home.first_client.exists() and await clients.exists(FIRST_CLIENT):
        return
    secret = await clients.add(FIRST_CLIENT, getpass.getuser())
    content = {"client_id": FIRST_CLIENT, "client_secret": secret}
    write_private(home.first_client, json.dumps(content, indent=2).encode())
