"""A watcher's messages as an HTTP answer (`text/event-stream`, WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from litestar.types import Receive, Scope, Send

from crestline.gateway.job_events.feeds import Watcher
from crestline.serving.connections import allow_eviction

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would keep messages until it has a page of them
]


class EventStream:
    """An ASGI application for one request; as slim as it can be, since thousands are open at a time."""

    __slots__ = ("_stack", "_watcher")

    def __init__(self, stack: AsyncExitStack, watcher: Watcher) -> None:
        self._stack = stack
        self._watcher = watcher

    @classmethod
    async def open(cls, watching: AbstractAsyncContextManager[Watcher]) -> EventStream:
        """Begin to watch, so that what goes wrong with that is answered like any request's error."""
        stack = AsyncExitStack()
        return cls(stack, await stack.enter_async_context(watching))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until one side has had enough."""
        gone = asyncio.ensure_future(_disconnected(receive, self._watcher))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            allow_eviction(scope)
            while (chunk := await self._watcher.next()) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self._stack.aclose()


async def _disconnected(receive: Receive, watcher: Watcher) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.close()
