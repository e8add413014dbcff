"""OpenFGA's Check endpoint on a loopback port; no package ships the server itself.

`POST /stores/{store_id}/check` as documented: 200 with `allowed`, 401 without the pre-shared key, 404 for another
store, 400 for a body without a tuple.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STORE = "01JCRESTLINE00000000000000"


class OpenFga:
    """The server; `tuples` are (user, relation, object)."""

    def __init__(self, key: str) -> None:
        self.tuples: set[tuple[str, str, str]] = set()
        self.questions: list[dict[str, Any]] = []
        self.broken: tuple[int, bytes] | None = None
        """answered instead, status and body"""
        self._key = key
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, always on the same port."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._connections.add(self.request)

            def finish(self) -> None:
                super().finish()
                outer._connections.discard(self.request)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = outer._answer(self.path, self.headers.get("Authorization"), body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self._connections):
                with suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, path: str, authorization: str | None, body: bytes) -> tuple[int, bytes]:
        if self.broken is not None:
            return self.broken
        if authorization != f"Bearer {self._key}":
            return _error(401, "bearer_token_missing")
        if path != f"/stores/{STORE}/check":
            return _error(404, "store_id_not_found")
        question = json.loads(body)
        self.questions.append(question)
        try:
            key = question["tuple_key"]
            allowed = (key["user"], key["relation"], key["object"]) in self.tuples
        except KeyError:
            return _error(400, "validation_error")
        return 200, json.dumps({"allowed": allowed, "resolution": ""}).encode()


def _error(status: int, code: str) -> tuple[int, bytes]:
    return status, json.dumps({"code": code, "message": code}).encode()


@contextmanager
def openfga(key: str) -> Iterator[OpenFga]:
    """A server that serves."""
    server = OpenFga(key)
    server.start()
    try:
        yield server
    finally:
        server.stop()
