"""A WebSocket client (RFC 6455) with only the standard library, for the agent, because a compute node may have no
more."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import ssl
import struct
import time
import urllib.request
from urllib.parse import urlsplit

ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_MESSAGE = 1 << 20
CONNECT_TIMEOUT = 30.0
"""Seconds after which an attempt to connect fails."""


class RefusedError(ConnectionError):
    """The server answered the handshake with another status than 101."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"The relay answered {status}: {reason}")
        self.status = status


class WebSocket:
    """The client's end of a connection, created by `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.heard = time.monotonic()
        """When the server last sent anything, as a reading of `time.monotonic()`."""

    async def send(self, message: bytes, opcode: int = BINARY) -> None:
        """Send one message, waiting while the connection is full."""
        mask = os.urandom(4)
        size = len(message)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        self._writer.write(head + mask + masked(mask, message))
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        """Return the next message; None when the server has closed the connection. Answers pings.

        Raises:
            OSError: the connection is lost.
            ValueError: the server violated the protocol.
        """
        parts = []
        while True:
            first, second = await self._read(2)
            opcode, size = first & 0x0F, second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._read(8))
            if size > MAX_MESSAGE or second & 0x80:
                raise ValueError("The relay sent a frame that no server may send.")
            payload = await self._read(size)
            if opcode == PING:
                await self.send(payload, PONG)
            elif opcode == CLOSE:
                return None
            elif opcode in (BINARY, CONTINUATION, TEXT):
                parts.append(payload)
                if first & 0x80:
                    return payload if len(parts) == 1 else b"".join(parts)

    async def _read(self, size: int) -> bytes:
        try:
            data = await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("The relay closed the connection.") from error
        self.heard = time.monotonic()
        return data

    async def ping(self) -> None:
        """Send a ping, so that proxies do not close an idle connection."""
        await self.send(b"", PING)

    def close(self) -> None:
        """Close the connection without a closing handshake."""
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection immediately, for an unresponsive peer."""
        self._writer.transport.abort()


async def connect(url: str, headers: dict[str, str], ca_file: str | None = None) -> WebSocket:
    """Open a WebSocket.

    Args:
        url: `ws://` or `wss://`, or the same with http.
        headers: sent with the handshake.
        ca_file: PEM file of the authority that signed the server's certificate; None: the system's.

    Raises:
        RefusedError: the server did not switch protocols.
        OSError: the connection failed.
    """
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    address = (parts.hostname or "", parts.port or (443 if secure else 80))
    context = ssl.create_default_context(cafile=ca_file) if secure else None
    connection = await asyncio.get_running_loop().run_in_executor(None, _dial, address, secure)
    reader, writer = await asyncio.open_connection(
        sock=connection, limit=MAX_MESSAGE, ssl=context, server_hostname=address[0] if secure else None
    )
    key = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status, _, reason = head[0].partition(" ")[2].partition(" ")
        answers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if status != "101":
            raise RefusedError(int(status), reason)
        expected = base64.b64encode(hashlib.sha1(key + ACCEPT_SUFFIX, usedforsecurity=False).digest()).decode()
        if answers.get("sec-websocket-accept") != expected:
            raise RefusedError(int(status), "the answer does not belong to this handshake")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        writer.close()
        raise ConnectionResetError("The relay's answer is not HTTP.") from error
    except RefusedError:
        writer.close()
        raise
    return WebSocket(reader, writer)


def _dial(address: tuple[str, int], secure: bool) -> socket.socket:
    """Open a TCP connection, through the proxy in the environment (`https_proxy`, `no_proxy`), if any."""
    proxy = urllib.request.getproxies().get("https" if secure else "http")
    if not proxy or urllib.request.proxy_bypass(address[0]):
        connection = socket.create_connection(address, CONNECT_TIMEOUT)
    else:
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = socket.create_connection((via.hostname or "", via.port or 80), CONNECT_TIMEOUT)
        connection.sendall(
            f"CONNECT {address[0]}:{address[1]} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)  # one by one, because bytes after the head belong to the stream
            if not byte:
                break
            answer += byte
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            connection.close()
            raise ConnectionRefusedError(f"The proxy {via.hostname} did not connect to {address[0]}.")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


_TRANSLATIONS = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def mask_pure_python(mask: bytes, data: bytes) -> bytes:
    """Return `data` exclusive-or the repeated mask, one byte of the mask at a time, the fastest way in plain Python."""
    result = bytearray(len(data))
    for place, key in enumerate(mask):
        result[place::4] = data[place::4].translate(_TRANSLATIONS[key])
    return bytes(result)


try:  # compiled, and many times faster; installed together with Jupyter
    from tornado.speedups import websocket_mask as masked
except ImportError:
    masked = mask_pure_python
