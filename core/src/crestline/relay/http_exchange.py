"""One HTTP exchange through the relay, parsed by an HTTP parser (h11) on both sides.

The relay sends only what the parser understood, encoded again: one request and its response per connection. Bytes after
the request are dropped, headers of one connection (RFC 9110, section 7.6.1) are removed, and a connection switches to
another protocol only if the request may ask for that and the response agrees.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import h11

from crestline.relay.frames import CHUNK_SIZE
from crestline.relay.mux import Stream
from crestline.relay.splice import give_up

MAX_HEAD = 64 * 1024
MAX_HEADERS = 256
HEAD_TIMEOUT = 30.0
"""Seconds until a request's head is complete."""
LINGER = 30.0
"""Seconds for a client to read the end of its response."""

_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"http2-settings",
}
_OF_PROXIES = re.compile(
    rb"forwarded|via|x-real-ip|x-scheme|x-(client|forwarded|original|rewrite|http-method)-?.*|.*_.*", re.IGNORECASE
)
"""Headers in which a proxy names the client, the path or the method, and names that CGI confuses with them."""
_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"PROPPATCH", b"MKCOL"}
_METHODS |= {b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT", b"SEARCH"}  # jupyter-server-proxy serves WebDAV, too

Headers = list[tuple[bytes, bytes]]


class Peer(Protocol):
    """One end of a connection: a stream of the relay, or a socket."""

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting while the peer does not accept more."""

    async def end(self) -> None:
        """Close the writing direction."""

    async def finish(self) -> None:
        """Close the connection when the peer has read everything, or after a while."""

    async def close(self) -> None:
        """Abort the connection in both directions."""


class StreamPeer:
    """A stream of the relay as one end of an exchange."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.read, self.write, self.end = stream.read, stream.write, stream.end

    async def finish(self) -> None:
        try:
            async with asyncio.timeout(LINGER):
                await self._stream.end()
                while await self._stream.read():
                    pass
        except (OSError, TimeoutError):
            pass
        await self.close()

    async def close(self) -> None:
        await give_up(self._stream)


class SocketPeer:
    """A TCP or Unix socket as one end of an exchange."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK_SIZE)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def finish(self) -> None:
        self._writer.close()
        asyncio.get_running_loop().call_later(LINGER, self._writer.transport.abort)

    async def close(self) -> None:
        self._writer.transport.abort()


class RefusedRequestError(Exception):
    """The relay does not forward the request; contains the status of the response."""

    def __init__(self, status: int, text: str, retry_after: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class RequestLeftError(ConnectionError):
    """The client disconnected before its response was complete."""


@dataclass(frozen=True)
class Passage:
    """How a request is forwarded.

    Args:
        idle_timeout: seconds without a byte in either direction after which the exchange ends.
        unanswered: response for the client if the server disconnected without one.
        host: replaces the header `Host`; headers that only proxies write are dropped then.
        may_upgrade: whether a WebSocket can be opened.
        max_body: maximum bytes of the request's body; None: unlimited, because the relay does not store it.
    """

    idle_timeout: float
    unanswered: str
    host: str | None = None
    may_upgrade: bool = False
    max_body: int | None = None


class Exchange:
    """A request whose head has been read, and its response."""

    def __init__(self, client: Peer, connection: h11.Connection, request: h11.Request) -> None:
        self._client = client
        self._incoming = connection
        self._outgoing = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._request = request
        self._heard = False
        """Whether the server has sent anything."""
        self._alive: Callable[[], None] = lambda: None

    @property
    def target(self) -> str:
        """Path and query of the request."""
        return self._request.target.decode("ascii")

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def announced_size(self) -> int:
        """Bytes of the body as announced in the head. h11 has checked that it is a number."""
        return next((int(value) for name, value in self._request.headers if name == b"content-length"), 0)

    async def refuse(self, refusal: RefusedRequestError) -> None:
        """Answer the client with an error instead of forwarding the request."""
        await _refuse(self._client, self._incoming, refusal)

    async def run(self, server: Peer, passage: Passage) -> None:
        """Forward the request and its response, and close the connection to the server.

        If the exchange fails before the response has begun, the client gets an error. Otherwise its connection ends.
        """
        try:
            await self._run(server, passage)
        except RefusedRequestError as refusal:
            await self.refuse(refusal)
        except TimeoutError:
            text = f"Neither side sent anything for {passage.idle_timeout:g} seconds.\n"
            await self.refuse(RefusedRequestError(504, text))
        except RequestLeftError:
            return
        except (OSError, h11.ProtocolError):
            if self._heard:
                await self.refuse(RefusedRequestError(502, "The server's answer is not complete HTTP.\n"))
            else:
                await self.refuse(RefusedRequestError(503, passage.unanswered, retry_after=5))
        finally:
            await server.close()

    async def _run(self, server: Peer, passage: Passage) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(passage.idle_timeout) as limit:
            self._alive = lambda: limit.reschedule(loop.time() + passage.idle_timeout)
            switched = asyncio.Event()
            asking = asyncio.ensure_future(self._ask(server, passage, switched))
            answering = asyncio.ensure_future(self._answer(server, switched))
            try:
                await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
                if answering.done() and not switched.is_set():
                    answering.result()  # a response ends the exchange, even if the request was not read to its end
                else:
                    await asyncio.gather(asking, answering)
            finally:
                asking.cancel()
                answering.cancel()
                await asyncio.gather(asking, answering, return_exceptions=True)

    async def _ask(self, server: Peer, passage: Passage, switched: asyncio.Event) -> None:
        """Forward the request, then bytes of the protocol that it asked for."""
        upgrades = passage.may_upgrade and _asks_for_websocket(self._request)
        await server.write(self._outgoing.send(_passed_on(self._request, passage.host, upgrades)) or b"")
        size = 0
        while True:
            event = await self._next(self._incoming, self._client, of_client=True)
            if isinstance(event, h11.Data):
                size += len(event.data)
                if passage.max_body is not None and size > passage.max_body:
                    raise RefusedRequestError(413, f"The body is longer than {passage.max_body} bytes.\n")
                await server.write(self._outgoing.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                await server.write(self._outgoing.send(h11.EndOfMessage()) or b"")
                break
        if upgrades:
            await switched.wait()
            await server.write(self._incoming.trailing_data[0])
        while data := await self._client.read():
            if switched.is_set():
                self._alive()
                await server.write(data)
        if not switched.is_set():
            raise RequestLeftError("The client closed its connection.")
        await server.end()

    async def _answer(self, server: Peer, switched: asyncio.Event) -> None:
        """Forward the response, then bytes of the other protocol."""
        while True:
            event = await self._next(self._outgoing, server)
            if isinstance(event, h11.InformationalResponse):
                switching = event.status_code == 101
                answer = h11.InformationalResponse(
                    status_code=event.status_code, reason=event.reason, headers=_end_to_end(event.headers, switching)
                )
                await self._client.write(self._incoming.send(answer) or b"")
                if switching:
                    break
            elif isinstance(event, h11.Response):
                await self._client.write(self._incoming.send(_response_bytes(event)) or b"")
            elif isinstance(event, h11.Data):
                await self._client.write(self._incoming.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                await self._client.write(self._incoming.send(h11.EndOfMessage()) or b"")
                return
        switched.set()
        data = self._outgoing.trailing_data[0]
        while data or (data := await server.read()):
            self._alive()
            await self._client.write(data)
            data = b""
        await self._client.end()

    async def _next(self, connection: h11.Connection, peer: Peer, *, of_client: bool = False) -> h11.Event:
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                if of_client:
                    raise RefusedRequestError(error.error_status_hint, f"{error}.\n") from error
                raise
            if event is h11.NEED_DATA:
                data = await peer.read()
                self._alive()
                self._heard = self._heard or (not of_client and bool(data))
                connection.receive_data(data)
            elif event is h11.PAUSED:  # an upgrade that was refused
                raise h11.RemoteProtocolError("The peer goes on where it has to wait.")
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("The peer closed the connection.")
            elif isinstance(event, h11.Event):
                return event


async def read_exchange(client: Peer, *, needs_host: bool = True) -> Exchange:
    """Read the head of a request. A malformed request is answered here.

    Raises:
        RefusedRequestError: the head is incomplete or exceeds a limit; the client has its response.
        OSError: the client disconnected.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        async with asyncio.timeout(HEAD_TIMEOUT):
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await client.read())
        if not isinstance(event, h11.Request):
            raise RefusedRequestError(400, "The connection ended before a request.\n")
        if len(event.headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in event.headers) > MAX_HEAD:
            raise RefusedRequestError(431, f"More than {MAX_HEADERS} headers, or {MAX_HEAD} bytes of them.\n")
        if not event.target.startswith(b"/") or event.method not in _METHODS:
            raise RefusedRequestError(400, "Not an HTTP/1.1 request for a path.\n")
        if needs_host and not any(name == b"host" for name, _ in event.headers):
            raise RefusedRequestError(400, "The request has no header Host.\n")
    except h11.RemoteProtocolError as error:
        refusal = RefusedRequestError(error.error_status_hint, f"{error}.\n")
        await _refuse(client, connection, refusal)
        raise refusal from error
    except TimeoutError as error:
        refusal = RefusedRequestError(400, f"No complete head of a request within {HEAD_TIMEOUT:g} seconds.\n")
        await _refuse(client, connection, refusal)
        raise refusal from error
    except RefusedRequestError as refusal:
        await _refuse(client, connection, refusal)
        raise
    return Exchange(client, connection, event)


async def _refuse(client: Peer, connection: h11.Connection, refusal: RefusedRequestError) -> None:
    """Send a response of the relay's own, unless another one has begun."""
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    body = str(refusal).encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    headers += [("Retry-After", str(refusal.retry_after))] if refusal.retry_after else []
    reason = HTTPStatus(refusal.status).phrase
    answer = h11.Response(status_code=refusal.status, reason=reason, headers=[*headers, ("Connection", "close")])
    try:
        data = [connection.send(event) for event in (answer, h11.Data(data=body), h11.EndOfMessage())]
        await client.write(b"".join(each or b"" for each in data))
        await client.end()
    except (OSError, h11.LocalProtocolError):
        return  # the client disconnected


def _passed_on(request: h11.Request, host: str | None, upgrades: bool) -> h11.Request:
    headers = _end_to_end(request.headers, upgrades)
    if host is not None:
        kept = [each for each in headers if each[0].lower() != b"host" and not _OF_PROXIES.fullmatch(each[0])]
        headers = [(b"Host", host.encode()), *kept]
    if not upgrades:
        headers.append((b"Connection", b"close"))
    return h11.Request(method=request.method, target=request.target, headers=headers)


def _response_bytes(response: h11.Response) -> h11.Response:
    """Mark the connection as closing, so that a proxy does not use it again."""
    headers = [*_end_to_end(response.headers, False), (b"Connection", b"close")]
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)


def _end_to_end(headers: h11._headers.Headers, upgrades: bool) -> Headers:
    """Return the headers without those of one connection. One header has the length of the body."""
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    dropped = _HOP_BY_HOP | (named - {b"host", b"content-length"})
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    kept = [
        (name, value)
        for name, value in headers.raw_items()
        if name.lower() not in dropped and not (name.lower() == b"content-length" and chunked)
    ]
    if chunked:
        kept.append((b"Transfer-Encoding", b"chunked"))
    if upgrades:
        kept += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return kept


def _asks_for_websocket(request: h11.Request) -> bool:
    headers = [(name, value.strip().lower()) for name, value in request.headers]
    connection = {token.strip() for name, value in headers if name == b"connection" for token in value.split(b",")}
    has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and not has_body
        and b"upgrade" in connection
        and [value for name, value in headers if name == b"upgrade"] == [b"websocket"]
    )
