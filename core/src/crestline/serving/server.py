"""A uvicorn server that accepts connections itself, so that limits apply from the first byte on, before TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Iterable
from functools import partial
from typing import Any

import uvicorn

from crestline.model import ConfigError
from crestline.serving.connections import AcceptedSocket, Connections, Network
from crestline.serving.limits import ConnectionLimits, raise_descriptor_limit
from crestline.serving.protocol import LimitedHttpProtocol

_BATCH = 64
"""Connections accepted before yielding to other tasks."""
_BACKLOG = 2048
_FIRST_ACTIVATED = 3
"""The descriptor of the first socket that systemd passes."""
_PAUSE = 0.5
"""Seconds without new connections after the system had no free descriptor or memory."""
_LARGEST_MESSAGE = 1024 * 1024
"""Maximum size in bytes of a WebSocket message. Up to 32 of them wait in memory."""
_TLS_SHUTDOWN = 5.0
"""Seconds for a client to complete the shutdown of TLS."""
_CHECK = 1.0
"""Seconds between two checks for slow clients."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\n"
    b"retry-after: 5\r\nconnection: close\r\n\r\nToo many connections.\r\n"
)

_log = logging.getLogger("crestline.server")


class HttpServer(uvicorn.Server):
    """A server on one bound socket.

    Args:
        app: the ASGI application.
        listener: bound, not yet listening; the server closes it.
        limits: limits of connections and requests.
        trusted_proxies: addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
        options: further settings of `uvicorn.Config`.

    Raises:
        ConfigError: a trusted proxy is not an address or network.
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        limits: ConnectionLimits | None = None,
        *,
        trusted_proxies: Iterable[str] = (),
        **options: Any,
    ) -> None:
        proxies = _networks(trusted_proxies)
        self.limits = (limits or ConnectionLimits()).resolve(raise_descriptor_limit())
        self.open_connections = Connections(self.limits, proxies)
        self._listener = listener
        self._handshakes: set[asyncio.Task[None]] = set()
        self._checks: asyncio.Task[None] | None = None
        self._resume: asyncio.TimerHandle | None = None
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=[str(each) for each in proxies],
                timeout_keep_alive=self.limits.keep_alive_timeout,
                ws_max_size=_LARGEST_MESSAGE,
                **options,
            )
        )

    def run_forever(self) -> None:
        """Serve until SIGINT (KeyboardInterrupt) or SIGTERM (ends the process by that signal)."""
        self.run(sockets=[])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])  # this class has its own listener
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._checks = asyncio.create_task(self._check_forever(), name="slow clients")
        self._accept_connections()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._resume is not None:
            self._resume.cancel()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in list(self._handshakes):
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        await super().shutdown(sockets=[])
        if self._checks is not None:
            self._checks.cancel()

    def close(self) -> None:
        """Close the listener of a server that did not start."""
        self._listener.close()

    def _accept_connections(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no free descriptor or memory: others may become free
                _log.error("no connection can be accepted for now: %s", error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                self._resume = loop.call_later(_PAUSE, self._accept_connections)
                return
            connection = AcceptedSocket(fileno=accepted.detach())
            connection.setblocking(False)
            connection.slot = self.open_connections.admit(address[0])
            if connection.slot is None:
                self._reject(connection)
                continue
            task = asyncio.create_task(self._serve_connection(connection))
            connection.slot.abort = partial(_give_up, task, connection)
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _serve_connection(self, connection: AcceptedSocket) -> None:
        slot, tls = connection.slot, self.config.ssl
        assert slot is not None  # noqa: S101 - its caller has checked
        try:
            # Small responses must not wait for each other (Nagle's algorithm).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: LimitedHttpProtocol(
                    self.config, self.server_state, self.lifespan.state, limits=self.limits, slot=slot
                ),
                connection,
                ssl=tls,
                ssl_handshake_timeout=self.limits.head_timeout if tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN if tls else None,
            )
        except (OSError, ssl.SSLError) as error:
            _log.debug("a connection was not made: %s", error)
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    def _reject(self, connection: AcceptedSocket) -> None:
        if self.config.ssl is None:
            with contextlib.suppress(OSError):
                connection.send(_FULL)
        connection.close()

    async def _check_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK)
            for each in list(self.server_state.connections):
                if isinstance(each, LimitedHttpProtocol):
                    each.check(loop.time())


def take_activated_socket() -> socket.socket | None:
    """Return the listening socket that systemd passed to this process (`LISTEN_FDS`), or None.

    It can be taken once, and programs that this process starts do not inherit it.

    Raises:
        ConfigError: systemd passed several sockets, or one that is not a listening TCP socket.
    """
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise ConfigError(f"systemd passed {count} sockets.", hint="Give the socket unit one ListenStream=.")
    os.set_inheritable(_FIRST_ACTIVATED, False)
    listener = socket.socket(fileno=_FIRST_ACTIVATED)
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise ConfigError(
            "The socket that systemd passed is not a listening TCP socket.",
            hint="Write ListenStream=ADDRESS:PORT in the socket unit, with Accept=no.",
        )
    return listener


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at an address, not yet listening.

    Raises:
        ConfigError: the address cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Choose another address with --host and --port."
        ) from error
    return listener


def _give_up(task: asyncio.Task[None], connection: socket.socket) -> None:
    task.cancel()
    connection.close()  # a task that is cancelled before its first step does nothing


def _networks(proxies: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(each) for each in proxies)
    except ValueError as error:
        raise ConfigError(
            f"Invalid trusted_proxies: {error}.", hint='Give IP addresses or networks, such as "10.0.0.0/24".'
        ) from error
