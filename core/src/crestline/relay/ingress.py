"""Where the hub's proxy comes in: finds the session of a request by its path, and joins the two connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from crestline.relay.frames import CHUNK_SIZE
from crestline.relay.http_exchange import Exchange, Passage, RefusedRequestError, SocketPeer, StreamPeer, read_exchange
from crestline.relay.mux import ChannelLostError, Multiplexer
from crestline.relay.sessions import Place, Sessions
from crestline.relay.stream_limits import LimitReachedError, StreamLimits

logger = logging.getLogger(__name__)

RECONNECT_GRACE = 20.0
"""seconds that a request waits for an agent whose connection is lost"""


class Ingress:
    """A listener for one hub's proxy.

    Args:
        address: `host:port`, or `unix:/path` (made for its owner alone).
        limits: of the requests that sessions may have open at once.
        max_heads: connections at once whose request has not been read yet; further ones are closed.
        idle_timeout: seconds without a byte in either direction after which a request ends.
        tls: certificate and key of the listener; None: plain HTTP, which belongs on loopback.
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
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        if self.address.startswith("unix:"):
            path = Path(self.address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=CHUNK_SIZE, ssl=self._tls)
            path.chmod(0o600)
        else:
            host, _, port = self.address.rpartition(":")
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]"), int(port), limit=CHUNK_SIZE, ssl=self._tls
            )

    @property
    def port(self) -> int:
        """The port that was taken, where the address says 0."""
        if self._server is None:
            raise RuntimeError("The ingress has not been started.")
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = SocketPeer(reader, writer)
        if self._heads >= self._max_heads:
            await client.close()
            return
        try:
            self._heads += 1
            try:
                exchange = await read_exchange(client)
            finally:
                self._heads -= 1
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


async def _connected(place: Place) -> Multiplexer:
    await asyncio.wait_for(place.connected.wait(), RECONNECT_GRACE)
    if place.mux is None:
        raise ChannelLostError("The agent went away again.")
    return place.mux
