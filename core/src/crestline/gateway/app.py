"""Composes the application."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from crestline.gateway.audit.asgi import AuditMiddleware
from crestline.gateway.deadline import DeadlineMiddleware
from crestline.gateway.errors import (
    handle_crestline_error,
    handle_http_exception,
    handle_unexpected,
)
from crestline.gateway.openapi import assets_router, describe_errors, openapi_config
from crestline.gateway.relay import RelayMiddleware
from crestline.gateway.request_context import RequestContextMiddleware
from crestline.gateway.requests import AuthenticationMiddleware, GatewayRequest, provide_caller, provide_system
from crestline.gateway.routes import compute, content, filesystem, iri, keys, oauth, page, status, transfers
from crestline.gateway.runtime import GatewayRuntime
from crestline.model import CrestlineError

Middleware = Callable[[ASGIApp], ASGIApp]


def routing(app: ASGIApp) -> ASGIApp:
    """The place of Litestar's routing in the list of middleware."""
    return app


def middleware(runtime: GatewayRuntime) -> list[Middleware]:
    """Return all middleware, the outermost first."""
    relay: list[Middleware] = [partial(RelayMiddleware, relay=runtime.relay)] if runtime.config.relay.hubs else []
    return [
        *relay,
        RequestContextMiddleware,
        partial(AuditMiddleware, runtime=runtime),
        routing,
        partial(DeadlineMiddleware, runtime=runtime),
        partial(AuthenticationMiddleware, runtime=runtime),
    ]


def create_app(runtime: GatewayRuntime) -> Litestar:
    """Create the gateway as an ASGI application with the lifespan of the runtime."""
    layers = middleware(runtime)
    route = layers.index(routing)
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
            *(iri.routers() if runtime.config.iri.enabled else []),
            assets_router(),
        ],
        request_class=GatewayRequest,
        dependencies={
            "caller": Provide(provide_caller, sync_to_thread=False),
            "system": Provide(provide_system),
        },
        middleware=layers[route + 1 :],
        exception_handlers={
            CrestlineError: handle_crestline_error,
            HTTPException: handle_http_exception,
            Exception: handle_unexpected,
        },
        lifespan=[lambda _: runtime.run()],
        state=State({"runtime": runtime}),
        openapi_config=openapi_config(urlsplit(runtime.public_url()).path.rstrip("/")),
        logging_config=None,
        request_max_body_size=runtime.config.max_body_size,
    )
    describe_errors(app)
    for layer in reversed(layers[:route]):
        app.asgi_handler = layer(app.asgi_handler)
    return app
