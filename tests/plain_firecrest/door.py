"""One listening port with an application behind it, in a thread of its own, that can be shut and opened again."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from plain_firecrest.fault_layer import ABORT


class Door:
    """A loopback port (`port` 0: a free one). While shut the port stays ours, and connections to it are refused."""

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self._app = app
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen; returns when connections are accepted."""
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
            self._socket.listen(2048)
            self._thread = threading.Thread(target=self._run, args=(self._server, self._socket), daemon=True)
            self._thread.start()
            while not self._server.started:
                if not self._thread.is_alive():
                    raise RuntimeError("the server did not start")
                time.sleep(0.005)

    def shut(self) -> None:
        """Reset all connections and refuse new ones; returns when that is so."""
        with self._lock:
            if self._server is None or self._thread is None:
                return
            self._server.force_exit = True
            self._server.should_exit = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._abort_all)
            self._thread.join()
            self._server = self._thread = self._loop = None
            self._socket = _bound(self.port)

    def close(self) -> None:
        """Shut for good, and give up the port."""
        self.shut()
        self._socket.close()

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[listener])

        asyncio.run(serve())

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[ABORT] = partial(self._abort, scope["client"])
        with suppress(asyncio.CancelledError):  # of requests that were under way when the door was shut
            await self._app(scope, receive, send)

    def _abort(self, client: tuple[str, int]) -> None:
        for connection in list(self._server.server_state.connections) if self._server else ():
            if tuple(getattr(connection, "client", None) or ()) == tuple(client):
                connection.transport.abort()

    def _abort_all(self) -> None:
        for connection in list(self._server.server_state.connections) if self._server else ():
            connection.transport.abort()


def _bound(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found
