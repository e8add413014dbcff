"""Forwards requests of the job to the hub's API, and no other requests."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import ssl
from urllib.parse import unquote, urlsplit

from crestline.relay.http_exchange import (
    Exchange,
    Passage,
    RefusedRequestError,
    SocketPeer,
    StreamPeer,
    read_exchange,
)
from crestline.relay.mux import Stream
from crestline.relay.stream_limits import LimitReachedError, StreamLimits
from crestline.relay.tokens import Session

logger = logging.getLogger(__name__)

MAX_PER_SESSION = 32
MAX_PER_USER = 64
IDLE_TIMEOUT = 120.0
CONNECT_TIMEOUT = 20.0
MAX_BODY = 1 << 20
MAX_DECODINGS = 4
"""Maximum number of times that a path can be encoded. Each proxy on the way to the hub decodes it once."""
_LEADS_UP = re.compile(r"(?:^|[/\\])\.{1,2}(?:$|[/\\;?#\s])")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


async def call_hub(stream: Stream, session: Session, limits: StreamLimits) -> None:
    """Serve one stream of an agent: one request, to a path below the URL of the hub's API."""
    client = StreamPeer(stream)
    try:
        with limits.stream(session):
            exchange = await read_exchange(client, needs_host=False)
            await _serve(exchange, session.hub_api)
            await client.finish()
    except LimitReachedError as error:
        logger.info("relay: a call of %s to the hub was refused: %s", session.user, error)
    except (RefusedRequestError, OSError) as error:
        logger.debug("relay: a call of %s to the hub was not passed on: %s", session.user, error)
    finally:
        await client.close()


async def _serve(exchange: Exchange, hub_api: str) -> None:
    try:
        server = await _hub(exchange, hub_api)
    except RefusedRequestError as refusal:
        await exchange.refuse(refusal)
        return
    await exchange.run(
        server,
        Passage(
            idle_timeout=IDLE_TIMEOUT,
            unanswered="The hub closed the connection without an answer.\n",
            host=urlsplit(hub_api).netloc.rpartition("@")[2],
            max_body=MAX_BODY,
        ),
    )


async def _hub(exchange: Exchange, hub_api: str) -> SocketPeer:
    parts = urlsplit(hub_api)
    secure = parts.scheme == "https"
    if not leads_below(exchange.path, parts.path):
        raise RefusedRequestError(403, "The relay leads to the hub's API alone.\n")
    if exchange.announced_size > MAX_BODY:
        raise RefusedRequestError(413, f"The body is longer than {MAX_BODY} bytes.\n")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return SocketPeer(
                *await asyncio.open_connection(
                    parts.hostname, parts.port or (443 if secure else 80), ssl=_context() if secure else None
                )
            )
    except (OSError, TimeoutError) as error:
        raise RefusedRequestError(502, "The hub does not answer.\n", retry_after=5) from error


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def leads_below(path: str, base: str) -> bool:
    """Whether a request's path stays below `base`, however often proxies decode it."""
    if not f"{path}/".startswith(base.rstrip("/") + "/"):
        return False
    for _ in range(MAX_DECODINGS):
        if _LEADS_UP.search(path) or _UNPRINTABLE.search(path):
            return False
        try:
            decoded = unquote(path, errors="strict")
        except UnicodeDecodeError:  # some decoders read `%c0%ae` as a dot
            return False
        if decoded == path:
            return True
        path = decoded
    return False
