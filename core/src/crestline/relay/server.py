"""The relay as an ASGI application: agents connect to it, hubs query their sessions and end them.

- `WebSocket {root}/agents`, bearer: a session token; 401 not signed by a hub, 409 held by another job, 410 ended or
  replaced.
- `GET {root}/sessions/{id}`, bearer: a manager token; `{"connected", "job", "streams"}`, 404 before an agent has
  connected.
- `DELETE {root}/sessions/{id}`, bearer: a manager token; the agent is disconnected and ends its server.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from crestline.relay.config import HubConfig, RelayConfig
from crestline.relay.hub_proxy import MAX_PER_SESSION, MAX_PER_USER, call_hub
from crestline.relay.ingress import Ingress
from crestline.relay.mux import Multiplexer, Stream
from crestline.relay.sessions import OtherJobError, SessionGoneError, Sessions
from crestline.relay.stream_limits import StreamLimits, descriptor_share
from crestline.relay.tokens import InvalidTokenError, Session

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Hub:
    """One hub: its key, its sessions, its ingress."""

    def __init__(self, name: str, config: HubConfig, descriptors: int) -> None:
        self.name = name
        self.key = config.key()
        self.sessions = Sessions()
        total = config.max_streams or descriptors // 2
        self.ingress = Ingress(
            self.sessions,
            config.ingress,
            limits=StreamLimits(config.max_streams_per_session, config.max_streams_per_user, total),
            max_heads=max(total // 4, 16),
            idle_timeout=config.idle_timeout,
            tls=config.tls(),
        )
        self.hub_calls = StreamLimits(MAX_PER_SESSION, MAX_PER_USER, max(total // 4, MAX_PER_SESSION))


class Relay:
    """The application. Call `start` before the first request and `stop` after the last.

    Raises:
        ConfigError: a hub's key or certificate cannot be used.
    """

    def __init__(self, config: RelayConfig) -> None:
        share = descriptor_share(len(config.hubs))
        self.hubs = [Hub(name, each, share) for name, each in config.hubs.items()]

    async def start(self) -> None:
        """Open every hub's ingress."""
        for hub in self.hubs:
            await hub.ingress.start()

    async def stop(self) -> None:
        """Close the ingresses and disconnect the agents, which reconnect when a relay runs again."""
        for hub in self.hubs:
            await hub.ingress.stop()
            for place in hub.sessions.all():
                if place.mux is not None:
                    place.mux.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "websocket" and path.rstrip("/").endswith("/agents"):
            await self._agent(scope, receive, send)
        elif scope["type"] == "http":
            await self._manage(scope["method"], path.rstrip("/").split("/"), _bearer(scope), send)
        elif scope["type"] == "websocket":
            await receive()
            await _reject(scope, send, 404, "No such endpoint.")

    async def _agent(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            hub, session = self._granted(_bearer(scope))
        except InvalidTokenError as error:
            await _reject(scope, send, 401, str(error))
            return

        async def send_message(message: bytes) -> None:
            await send({"type": "websocket.send", "bytes": message})

        async def serve_hub_call(stream: Stream, purpose: str) -> None:
            if purpose == "hub":
                await call_hub(stream, session, hub.hub_calls)
            else:
                await stream.reset()

        mux = Multiplexer(send_message, opens_even=True, on_open=serve_hub_call)
        try:
            place = hub.sessions.attach(session, _header(scope, b"crestline-job-id"), mux)
        except SessionGoneError as error:
            await _reject(scope, send, 410, str(error))
            return
        except OtherJobError as error:
            await _reject(scope, send, 409, str(error))
            return
        logger.info(
            "relay: agent of %s at %s connected (hub %s, job %s)", session.user, session.path, hub.name, place.job
        )
        await send({"type": "websocket.accept"})
        pumping = asyncio.ensure_future(_pump(receive, mux))
        closing = asyncio.ensure_future(mux.closed.wait())
        try:
            await asyncio.wait([pumping, closing], return_when=asyncio.FIRST_COMPLETED)
            broken = pumping.exception() if pumping.done() else None
            if broken is not None:
                logger.warning("relay: agent of %s dropped: %s", session.user, broken)
            if broken is not None or not pumping.done():
                await send({"type": "websocket.close", "code": 1001})
        finally:
            pumping.cancel()
            closing.cancel()
            hub.sessions.detach(place, mux)
            logger.info("relay: agent of %s at %s gone", session.user, session.path)

    def _granted(self, token: str) -> tuple[Hub, Session]:
        for hub in self.hubs:
            try:
                return hub, hub.key.session(token)
            except InvalidTokenError as error:
                reason = error
        raise InvalidTokenError(str(reason)) if self.hubs else InvalidTokenError("This relay serves no hub.")

    async def _manage(self, method: str, segments: list[str], token: str, send: Send) -> None:
        if len(segments) < 2 or segments[-2] != "sessions" or method not in ("GET", "DELETE"):
            await _answer(send, 404, {"message": "No such endpoint."})
            return
        hub = self._managed_by(token)
        if hub is None:
            await _answer(send, 401, {"message": "A token that a hub of this relay has signed is needed."})
            return
        if method == "DELETE":
            hub.sessions.end(segments[-1])
            await _answer(send, 204, None)
            return
        place = hub.sessions.find(segments[-1])
        if place is None:
            await _answer(send, 404, {"message": "No agent has come for this session."})
        else:
            await _answer(send, 200, {"connected": place.mux is not None, "job": place.job, "streams": place.streams})

    def _managed_by(self, token: str) -> Hub | None:
        for hub in self.hubs:
            try:
                hub.key.check_manager(token)
            except InvalidTokenError:
                continue
            return hub
        return None


async def _pump(receive: Receive, mux: Multiplexer) -> None:
    """Pass the channel's messages to its streams until either end closes it."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await mux.receive(message.get("bytes") or b"")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _bearer(scope: Scope) -> str:
    kind, _, token = _header(scope, b"authorization").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _reject(scope: Scope, send: Send, status: int, reason: str) -> None:
    """Refuse a WebSocket with a status, if the server supports that (ASGI's websocket.http.response)."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": f"{reason}\n".encode()})
    else:
        await send({"type": "websocket.close", "code": 4000 + status, "reason": reason})


async def _answer(send: Send, status: int, content: dict[str, Any] | None) -> None:
    body = b"" if content is None else json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
