"""The listener for the hub's proxy: finds the session of a request by its path, and connects the two."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from crestline.relay.frames import CHUNK_SIZE
from crestline.relay.http_exchange import (
    HEAD_TIMEOUT,
    Exchange,
    Passage,
    RefusedRequestError,
    SocketPeer,
    StreamPeer,
    read_exchange,
)
from crestline.relay.mux import ChannelLostError, Multiplexer
from crestline.relay.sessions import RelaySession, Sessions
from crestline.relay.stream_limits import LimitReachedError, StreamLimits

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_PAUSE = 0.5
"""Seconds without new connections after the system had no free descriptor or memory."""
_ACCEPTING = "relay ingress"

RECONNECT_GRACE = 20.0
"""Seconds for which a request waits for an agent whose connection is lost."""


class Ingress:
    """A listener for one hub's proxy.

    Args:
        address: `host:port`, or `unix:/path` (created for its owner only).
        limits: limits of the requests that sessions can have open at once.
        max_heads: maximum number of connections whose request has not been read yet, or that are not encrypted yet.
            Further ones are closed.
        idle_timeout: seconds without a byte in either direction after which a request ends.
        tls: certificate and key of the listener; None: plain HTTP, which must be on loopback.
    """

    def __init__(
        self,
        sessions: Sessions,
        address: str,
        *,
        limits: StreamLimits,
        max_heads: int,
        idle_timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sessions = sessions
        self._limits = limits
        self._max_heads = max_heads
        self._heads = 0
        self._idle_timeout = idle_timeout
        self.address = address
        self._tls = tls
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: the address cannot be bound.
        """
        if self.address.startswith("unix:"):
            path = Path(self.address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            self._listeners.append(listener)
            listener.bind(str(path))
            path.chmod(0o600)
        else:
            host, _, port = self.address.rpartition(":")
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only for named protocols
                self._listeners.append(listener)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
        for listener in self._listeners:
            listener.setblocking(False)
            listener.listen(_BACKLOG)
            self._spawn(self._accept(listener))

    @property
    def port(self) -> int:
        """The port, if the address has port 0."""
        if not self._listeners:
            raise RuntimeError("The ingress has not been started.")
        return int(self._listeners[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listening socket."""
        for task in [each for each in self._tasks if each.get_name() == _ACCEPTING]:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str = _ACCEPTING) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        """Accept connections, and count each before its TLS handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no free descriptor or memory: others may become free
                logger.error("relay: no connection can be accepted at %s for now: %s", self.address, error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            if self._heads >= self._max_heads:
                connection.close()
                continue
            self._heads += 1
            self._spawn(self._connect(connection), "relay request")

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK_SIZE)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            try:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=HEAD_TIMEOUT if self._tls is not None else None,
                )
            except BaseException:
                connection.close()
                raise
            client = SocketPeer(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
            exchange = await _head(client)
        except OSError as error:
            logger.debug("relay: a connection at %s brought no request: %s", self.address, error)
            return
        finally:
            self._heads -= 1
        try:
            if exchange is not None:
                await self._pass_on(exchange)
        except (RefusedRequestError, OSError) as error:
            logger.debug("relay: a request at %s was not passed on: %s", self.address, error)
        finally:
            await client.finish()

    async def _pass_on(self, exchange: Exchange) -> None:
        place = self._sessions.for_request(exchange.path)
        if place is None:
            await exchange.refuse(RefusedRequestError(503, "No job serves this path.\n", retry_after=5))
            return
        try:
            with self._limits.stream(place.session):
                stream = await (await _connected(place)).open("server")
                place.streams += 1
                await exchange.run(
                    StreamPeer(stream),
                    Passage(
                        idle_timeout=self._idle_timeout,
                        unanswered="The job's server does not listen yet.\n",
                        may_upgrade=True,
                    ),
                )
        except LimitReachedError as error:
            logger.info("relay: a request for %s was refused: %s", place.session.path, error)
            await exchange.refuse(RefusedRequestError(503, f"{error}\n", retry_after=5))
        except (TimeoutError, ConnectionError):
            text = "The job's connection to the relay is interrupted.\n"
            await exchange.refuse(RefusedRequestError(503, text, retry_after=5))


async def _head(client: SocketPeer) -> Exchange | None:
    """Read the request of a new connection; None if it was refused, or its client disconnected."""
    try:
        return await read_exchange(client)
    except (RefusedRequestError, OSError) as error:
        logger.debug("relay: a request was not passed on: %s", error)
        return None


async def _connected(place: RelaySession) -> Multiplexer:
    await asyncio.wait_for(place.connected.wait(), RECONNECT_GRACE)
    if place.mux is None:
        raise ChannelLostError("The agent went away again.")
    return place.mux
