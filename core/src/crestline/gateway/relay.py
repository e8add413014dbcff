"""The relay inside the gateway: below `/relay`, beside FirecREST's endpoints."""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

from crestline.relay.server import Relay

PREFIX = "/relay/"


class RelayMiddleware:
    """ASGI wrapper around the whole application. The relay checks its own tokens."""

    def __init__(self, app: ASGIApp, relay: Relay) -> None:
        self._app = app
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["path"].lower().startswith(PREFIX):
            await self._relay(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._app(scope, receive, send)
