"""A server thread for one application, whose listening port can be closed and reopened."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from crestline.testing.firecrest.fault_layer import ABORT


class Listener:
    """A loopback port (`port` 0 selects a free one). While closed, the port remains reserved, and connections to it
    are refused."""

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self._app = app
        self._reservation = _bound(port)
        """A bound socket that never listens, so that no other program gets the port."""
        self.port: int = self._reservation.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shut: asyncio.Event | None = None
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        """The base URL `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Start listening. Returns when connections are accepted."""
        with self._lock:
            if self._server is not None:
                return
            config = uvicorn.Config(
                self._enter,
                log_level="error",
                access_log=False,
                interface="asgi3",
                lifespan="off",
                http="h11",
                ws="none",
            )
            self._server = uvicorn.Server(config)
            listener = _bound(self.port)
            listener.listen(2048)
            self._thread = threading.Thread(target=self._run, args=(self._server, listener), daemon=True)
            self._thread.start()
            while not self._server.started:
                if not self._thread.is_alive():
                    raise RuntimeError("the server did not start")
                time.sleep(0.005)

    def shut(self) -> None:
        """Reset all connections and refuse new ones. Returns when this is done."""
        with self._lock:
            if self._server is None or self._thread is None:
                return
            assert self._loop is not None
            assert self._shut is not None
            self._loop.call_soon_threadsafe(self._shut.set)
            self._thread.join()
            self._server = self._thread = self._loop = self._shut = None

    def close(self) -> None:
        """Close the port permanently and release it."""
        self.shut()
        self._reservation.close()

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        async def serve() -> None:
            # The steps of `server.serve`, which would check only ten times a second whether to stop.
            self._loop, self._shut = asyncio.get_running_loop(), asyncio.Event()
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[listener])
            clock = asyncio.create_task(server.main_loop())
            await self._shut.wait()
            clock.cancel()
            for each in server.servers:
                each.close()
            listener.close()
            self._abort_all()

        asyncio.run(serve())

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[ABORT] = partial(self._abort, scope["client"])
        with suppress(asyncio.CancelledError):  # of requests in flight when the port was closed
            await self._app(scope, receive, send)

    def _abort(self, client: tuple[str, int]) -> None:
        for connection in list(self._server.server_state.connections) if self._server else ():
            if tuple(getattr(connection, "client", None) or ()) == tuple(client):
                connection.transport.abort()

    def _abort_all(self) -> None:
        for connection in list(self._server.server_state.connections) if self._server else ():
            connection.transport.abort()


def _bound(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is specified. Without it, responses in two parts take 40 ms longer.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found
