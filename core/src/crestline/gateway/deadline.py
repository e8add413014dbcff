"""Ends every request in time, even if a service behind the gateway does not respond, and when its client
disconnects."""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast
from urllib.parse import parse_qs

from anyio import CancelScope
from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from crestline.gateway.errors import handle_crestline_error
from crestline.gateway.runtime import GatewayRuntime
from crestline.model import GatewayUnavailableError
from crestline.serving.connections import allow_eviction
from crestline.wire.extensions import LONGEST_WAIT

OWN_LIMITS = "own_limits"
"""Key of a route's `opt`: True if it takes as long as its data, and fails if no data moves."""

_RETRY_AFTER = 5


class DeadlineMiddleware:
    """ASGI middleware that answers 503 if no response has begun in time, and cancels the work."""

    def __init__(self, app: ASGIApp, runtime: GatewayRuntime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == ScopeType.HTTP and _works_on_files(scope):
            async with _Departure(receive) as departure:
                if scope["method"] != "POST":  # the request has no body to read
                    await departure.begin()
                await self._serve(scope, departure.receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["route_handler"].opt.get(OWN_LIMITS):
            await self._app(scope, receive, send)
            return
        limit = self._runtime.config.deadline
        refusal: asyncio.Task[None] | None = None

        async def send_in_time(message: Message) -> None:
            timer.cancel()
            if refusal is None:
                await send(message)

        def give_up() -> None:
            nonlocal refusal
            # In a separate task, because the cancelled work may be in a thread that waits for an unresponsive file
            # system.
            refusal = asyncio.create_task(_refuse(limit, scope, receive, send), name="deadline")
            work.cancel()

        if wait := _asked_wait(scope):
            allow_eviction(scope)
        timer = asyncio.get_running_loop().call_later(limit + wait, give_up)
        try:
            with CancelScope() as work:
                await self._app(scope, receive, send_in_time)
        finally:
            timer.cancel()
            if refusal is not None:
                await refusal


def _works_on_files(scope: HTTPScope) -> bool:
    """Whether a request can keep a thread busy after its body has arrived, and loses nothing if it ends early.

    An upload is finished even if its client does not wait for the response.
    """
    template = str(scope.get("path_template", ""))
    return "/ops/" in template and scope["method"] != "PUT" and not template.endswith("/ops/upload")


class _Departure:
    """Cancels the work on a request when its client disconnects."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first: HTTPReceiveMessage | None = None
        self._rest: asyncio.Task[HTTPReceiveMessage] | None = None
        self._work = CancelScope()

    async def __aenter__(self) -> Self:
        self._work.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        if self._rest is not None:
            self._rest.cancel()
        return self._work.__exit__(*error)

    async def begin(self) -> None:
        """Take the first message, so that the next one can only be the disconnect."""
        self._first = await self.receive()

    async def receive(self) -> HTTPReceiveMessage:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._rest is not None:
            return await asyncio.shield(self._rest)
        message = cast("HTTPReceiveMessage", await self._receive())
        if message["type"] == "http.request" and not message.get("more_body"):
            self._rest = asyncio.create_task(self._next(), name="departure")
            self._rest.add_done_callback(self._left)
        return message

    async def _next(self) -> HTTPReceiveMessage:
        return cast("HTTPReceiveMessage", await self._receive())

    def _left(self, rest: asyncio.Task[HTTPReceiveMessage]) -> None:
        if not rest.cancelled() and rest.exception() is None:
            self._work.cancel()


async def _refuse(limit: float, scope: HTTPScope, receive: Receive, send: Send) -> None:
    error = GatewayUnavailableError(
        f"There was no answer within {limit:g} s.",
        hint="What was asked may or may not have happened; look before you repeat it.",
        retry_after=_RETRY_AFTER,
    )
    request: Request[Any, Any, Any] = Request(scope, receive, send)
    answer = handle_crestline_error(request, error).to_asgi_response(app=None, request=request)
    await answer(scope, receive, send)


def _asked_wait(scope: HTTPScope) -> float:
    """Return the seconds that the request itself asks to wait. Its route validates them."""
    if b"wait=" not in scope["query_string"]:
        return 0.0
    try:
        seconds = float(parse_qs(scope["query_string"].decode("latin-1")).get("wait", ["0"])[-1])
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else 0.0
