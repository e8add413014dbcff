"""Connections of the client to a stand-in and for a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crestline.client.auth import StaticToken
from crestline.client.backends.base import Backend
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.client.connection import Connection
from crestline.client.policy import Policy, PollPolicy, RetryPolicy
from crestline.testing.firecrest import PlainFirecrest
from harness.gateway import RunningGateway

QUICK = Policy(
    retry=RetryPolicy(attempts=3, initial_backoff=0.05, max_backoff=0.3),
    poll=PollPolicy(min_interval=0.05, max_interval=0.5),
)


@asynccontextmanager
async def plain_connection(plain: PlainFirecrest) -> AsyncIterator[Connection]:
    """The first user on a stand-in."""
    async with _opened(FirecrestBackend(plain.url, plain.system, StaticToken(plain.token()), policy=QUICK)) as opened:
        yield opened


@asynccontextmanager
async def plain_backend(plain: PlainFirecrest) -> AsyncIterator[Backend]:
    """The backend of `plain_connection`."""
    async with plain_connection(plain) as connection:
        yield connection.backend


@asynccontextmanager
async def gateway_connection(gateway: RunningGateway, url: str | None = None) -> AsyncIterator[Connection]:
    """The first client of a gateway, reached by another address if `url` is given."""
    token = StaticToken(gateway.token())
    async with _opened(FirecrestBackend(url or gateway.url, gateway.system, token, policy=QUICK)) as opened:
        yield opened


@asynccontextmanager
async def gateway_backend(gateway: RunningGateway, url: str | None = None) -> AsyncIterator[Backend]:
    """The backend of `gateway_connection`."""
    async with gateway_connection(gateway, url) as connection:
        yield connection.backend


@asynccontextmanager
async def _opened(backend: Backend) -> AsyncIterator[Connection]:
    connection = Connection(backend, QUICK)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()
