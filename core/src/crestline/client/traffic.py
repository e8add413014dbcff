"""Counters of requests and bytes, in total and for one block of code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx
import msgspec


class Traffic(msgspec.Struct):
    """Number of requests, including retries, and of bytes in bodies.

    Example::

        with measure_traffic() as traffic:
            await daint.upload("structures/", "/scratch/u/run1")
        print(traffic.requests, traffic.sent)
    """

    requests: int = 0
    """number of requests, including retries"""
    sent: int = 0
    """bytes of request bodies"""
    received: int = 0
    """bytes of answer bodies"""


_counting: ContextVar[tuple[Traffic, ...]] = ContextVar("crestline_traffic", default=())


@contextmanager
def measure_traffic() -> Iterator[Traffic]:
    """Count the requests and bytes of the code in this block and of the tasks that it starts.

    Requests that serve several callers at once (job lists, tokens) are not counted.
    """
    traffic = Traffic()
    token = _counting.set((*_counting.get(), traffic))
    try:
        yield traffic
    finally:
        _counting.reset(token)


class CountingTransport(httpx.AsyncBaseTransport):
    """Counts requests in `total` and in each enclosing `measure_traffic`, and passes them on."""

    def __init__(self, transport: httpx.AsyncBaseTransport, total: Traffic) -> None:
        self._transport = transport
        self._total = total

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        counters = (self._total, *_counting.get())
        for counter in counters:
            counter.requests += 1
        if isinstance(request.stream, httpx.AsyncByteStream):
            request.stream = _Counted(request.stream, counters, "sent")
        response = await self._transport.handle_async_request(request)
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Counted(response.stream, counters, "received")
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, counters: tuple[Traffic, ...], field: str) -> None:
        self._stream = stream
        self._counters = counters
        self._field = field

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            for counter in self._counters:
                setattr(counter, self._field, getattr(counter, self._field) + len(chunk))
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
