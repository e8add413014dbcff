"""Backends of the client for a stand-in and for a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crestline.client.auth import StaticToken
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.client.policy import Policy, PollPolicy, RetryPolicy
from harness.gateway import RunningGateway
from plain_firecrest.fixture import PlainFirecrest

QUICK = Policy(
    retry=RetryPolicy(attempts=3, first_wait=0.05, longest_wait=0.3),
    poll=PollPolicy(shortest=0.05, longest=0.5),
)


@asynccontextmanager
async def plain_backend(plain: PlainFirecrest) -> AsyncIterator[FirecrestBackend]:
    """The first user on a stand-in."""
    async with _opened(FirecrestBackend(plain.url, plain.system, StaticToken(plain.token()), policy=QUICK)) as backend:
        yield backend


@asynccontextmanager
async def gateway_backend(gateway: RunningGateway, url: str | None = None) -> AsyncIterator[FirecrestBackend]:
    """The first client of a gateway, reached by another address if `url` is given."""
    token = StaticToken(gateway.token())
    async with _opened(FirecrestBackend(url or gateway.url, gateway.system, token, policy=QUICK)) as backend:
        yield backend


@asynccontextmanager
async def _opened(backend: FirecrestBackend) -> AsyncIterator[FirecrestBackend]:
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
