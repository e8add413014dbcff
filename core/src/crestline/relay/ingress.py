"""Where the hub's proxy comes in: finds the session of a request by its path, and joins the two connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from crestline.relay.http_head import MAX_HEAD, BadHeadError, answer, closing_answer, read_head, unavailable
from crestline.relay.mux import ChannelLostError, Multiplexer
from crestline.relay.sessions import Place, Sessions
from crestline.relay.splice import splice

logger = logging.getLogger(__name__)

RECONNECT_GRACE = 20.0
"""seconds that a request waits for an agent whose connection is lost"""


class Ingress:
    """A listener for one hub's proxy.

    Args:
        address: `host:port`, or `unix:/path` (made for its owner alone).
        tls: certificate and key of the listener; None: plain HTTP, which belongs on loopback.
    """

    def __init__(self, sessions: Sessions, address: str, tls: ssl.SSLContext | None = None) -> None:
        self._sessions = sessions
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
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_HEAD, ssl=self._tls)
            path.chmod(0o600)
        else:
            host, _, port = self.address.rpartition(":")
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]"), int(port), limit=MAX_HEAD, ssl=self._tls
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
        try:
            head = await read_head(reader)
        except BadHeadError as error:
            await _refuse(writer, answer(400, "Bad Request", f"{error}\n"))
            return
        except OSError:
            writer.close()
            return
        place = self._sessions.for_request(head.path)
        if place is None:
            await _refuse(writer, unavailable("No job serves this path.\n"))
            return
        try:
            mux = await _connected(place)
            stream = await mux.open("server")
            place.streams += 1
            await stream.write(head.for_one_request())
        except (TimeoutError, ConnectionError):
            await _refuse(writer, unavailable("The job's connection to the relay is interrupted.\n"))
            return
        not_yet = unavailable("The job's server does not listen yet.\n")
        await splice(stream, reader, writer, opening=closing_answer, unanswered=not_yet)


async def _connected(place: Place) -> Multiplexer:
    await asyncio.wait_for(place.connected.wait(), RECONNECT_GRACE)
    if place.mux is None:
        raise ChannelLostError("The agent went away again.")
    return place.mux


async def _refuse(writer: asyncio.StreamWriter, message: bytes) -> None:
    try:
        writer.write(message)
        await writer.drain()
    except OSError as error:
        logger.debug("The proxy went away: %s", error)
    finally:
        writer.close()
