"""HTTP/1.1 by uvicorn and httptools, with limits of size and silence."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from crestline.serving.connections import MAKE_WAY, Slot
from crestline.serving.limits import ConnectionLimits

_MOST_PIPELINED = 16
_LINGER = 10.0
"""Seconds for which data of a client is read and dropped, so that it receives the response with the error."""
_MOST_DROPPED = 32 * 1024 * 1024
"""Maximum bytes of a body that are read and dropped after its response. If a client sends more, the connection is
closed."""
_GRACE = 2.0
"""Seconds after which a request with a slow body may be closed if slots are short."""
_SLOW = 16 * 1024
"""Rate in bytes per second below which a body is slow, and maximum size of a body that needs no credential."""

_log = logging.getLogger("crestline.server.http")
_log.setLevel(logging.ERROR)  # it logs invalid requests, with which an attacker could fill the log
_RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: drop unsent data."""

_App = Callable[[Any, Any, Any], Awaitable[None]]

_TEXTS = {
    HTTPStatus.BAD_REQUEST: "The request is not valid HTTP/1.1.",
    HTTPStatus.REQUEST_TIMEOUT: "The request was not complete in time. Send it without pauses.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The URL is too long. Send large values in the body.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too large. Send fewer or shorter ones.",
}


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. The server calls `check` about once a second."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: ConnectionLimits,
        slot: Slot,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = _log
        self.app = self._announce_end(self.app)
        self._limits = limits
        self._slot = slot
        self.url = b""
        self._refusal = HTTPStatus.BAD_REQUEST
        self._is_refused = False
        self._in_head = True
        self._in_body = False
        self._head_size = 0  # of earlier pieces
        self._begun_in_piece = self._ended_in_piece = False
        self._received = 0
        self._brought_body = False  # of the current piece
        self._framing = 0  # of a body: bytes since the last piece with content
        self._body_size: int | None = 0  # as declared; None: chunked
        self._is_last = False  # whether the current response has announced that the connection closes after it
        self._dropped = 0  # of the body of an answered request
        self._resumed = 0
        self._waits_since = self.loop.time()
        self._closes_at: float | None = None
        self._window = (self._waits_since, 0)
        self._written = (self._waits_since, 0, 0)

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._slot.abort = transport.abort
        if self._slot.is_released:  # it was closed in favour of another one before it was set up
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. The parser receives no more of an endless head than the limit."""
        self._received += len(data)
        if self._in_body and self.cycle is not None and self.cycle.response_complete:
            self._dropped += len(data)
            if self._dropped > _MOST_DROPPED:
                self.transport.abort()  # the response was received long before this data
                return
        most = self._limits.max_head_size
        for start in range(0, len(data), most):
            if self._is_refused or self.transport.is_closing():
                return
            piece = data if len(data) <= most else data[start : start + most]
            self._begun_in_piece = self._ended_in_piece = self._brought_body = False
            super().data_received(piece)
            if self._in_head and not self._ended_in_piece and not self._is_refused:
                self._head_size += len(piece)
                if self._head_size > most or len(self.headers or ()) > self._limits.max_header_count:
                    self.refuse(self._too_large())
            elif self._in_body and not self._is_refused:
                self._framing = 0 if self._brought_body else self._framing + len(piece)
                if self._framing > most:
                    self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _announce_end(self, app: _App) -> _App:
        """If a response precedes the end of its request's long body, make it the last one of the connection, and
        announce that.

        Otherwise the client could send its next request after data that is no longer read (RFC 9110, section 9.3).
        """

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            async def send_wrapped(message: Any) -> None:
                cycle = self.cycle
                if message["type"] != "http.response.start" or self.pipeline or not self._has_long_rest():
                    await send(message)
                    return
                message["headers"] = [*message["headers"], (b"connection", b"close")]
                await send(message)
                # uvicorn would close immediately, and the following reset could overtake the response.
                cycle.keep_alive = self._is_last = True

            await app(scope, receive, send_wrapped)

        return serve

    def _has_long_rest(self) -> bool:
        return self._in_body and (self._body_size is None or self._body_size > _MOST_DROPPED)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools.HttpRequestParser`. Trailers are dropped."""
        if not self._in_body:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """See `httptools.HttpRequestParser`."""
        self._brought_body = True
        super().on_body(body)

    def on_message_begin(self) -> None:
        """See `httptools.HttpRequestParser`."""
        super().on_message_begin()
        self._begun_in_piece = True
        self._waits_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """See `httptools.HttpRequestParser`. An error raised here results in a call of `send_400_response`."""
        # A head within one piece is small enough.
        is_large = not self._begun_in_piece and self._size() > self._limits.max_head_size
        if is_large or len(self.headers) > self._limits.max_header_count:
            self._refusal = self._too_large()
            raise ValueError("the head is too large")
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("too many requests at once")
        self._in_head, self._in_body, self._head_size, self._framing, self._dropped = False, True, 0, 0, 0
        headers = dict(self.headers)
        self._body_size = None if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))
        self._window = (self.loop.time(), self._received)
        self._slot.set_waiting(False)
        extensions: dict[str, Any] = {**(self.scope.get("extensions") or {}), MAKE_WAY: self._allow_eviction}
        self.scope["extensions"] = extensions
        super().on_headers_complete()

    def _allow_eviction(self) -> None:
        if not self._in_body and not self.pipeline:
            self._slot.set_waiting(True)

    def on_message_complete(self) -> None:
        """See `httptools.HttpRequestParser`."""
        self._in_head, self._in_body, self._ended_in_piece = True, False, True
        self._closes_at = None
        self._waits_since = self.loop.time()
        if self._is_last and self.cycle.response_complete:
            self.transport.close()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._slot.set_waiting(True)

    def on_response_complete(self) -> None:
        """Called when a response is complete."""
        super().on_response_complete()
        self._waits_since = self.loop.time()
        if self._is_last and not self._in_body:
            self.transport.close()
        if self.cycle.response_complete and not self._in_body:
            self._slot.set_waiting(True)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._resumed += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called for a malformed request."""
        self.refuse(self._refusal)

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with an error, read and drop further data, and close. A response in progress is the last one."""
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            if self.pipeline or self.cycle.response_started:
                self.transport.close()
                return
            if not self._in_body:
                self.cycle.keep_alive = False
                return
            self.cycle.disconnected = True  # notifies the application of the disconnect
            self.cycle.message_event.set()
        text = f"{_TEXTS[status]}\n".encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + text)
        self._slot.set_waiting(True)
        self._closes_at = self.loop.time() + _LINGER
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def check(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        if self._is_stuck(now):
            # Otherwise the operating system would keep unsent data, and try for minutes to send it.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif self._closes_at is not None and now >= self._closes_at:
            self.transport.abort()
        elif self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.connections.discard(self)  # so that the server does not wait for it when it stops
        elif self._is_refused or self.transport.is_closing():
            return
        elif self.cycle is not None and not self.cycle.response_complete:
            if self._in_body:
                self._check_body(now)
        elif self._in_body:  # answered, while the body still arrives
            self._closes_at = self._closes_at or now + self._limits.body_timeout
            self._slot.set_waiting(True)
        elif (self._head_size or self.cycle is None) and now - self._waits_since >= self._limits.head_timeout:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT) if self._head_size else self.transport.abort()

    def _check_body(self, now: float) -> None:
        since, received = self._window
        if self.flow.read_paused:  # the application is slow, not the client
            self._window = (now, self._received)
        elif now - since >= self._limits.body_timeout:
            if self._received - received <= self._limits.min_body_rate * self._limits.body_timeout:
                self.refuse(HTTPStatus.REQUEST_TIMEOUT)
            self._window = (now, self._received)
        elif now - since >= _GRACE:
            self._slot.set_waiting(self._received - received < _SLOW * (now - since))

    def _is_stuck(self, now: float) -> bool:
        """Whether the client has read nothing of its response in time."""
        since, resumed, left = self._written
        size = self.transport.get_write_buffer_size()
        if not size or (resumed, left) != (self._resumed, size):
            self._written = (now, self._resumed, size)
            return False
        return now - since >= self._limits.body_timeout

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> HTTPStatus:
        if self.headers or len(self.url) <= self._limits.max_head_size // 2:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return HTTPStatus.REQUEST_URI_TOO_LONG
