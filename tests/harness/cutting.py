"""A TCP relay on loopback that cuts connections where a test says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Relay:
    """Passes bytes on, and cuts a connection each time that so many more have gone one way (in all connections)."""

    target: tuple[str, int]
    url: str = ""
    cuts_down: list[int] = field(default_factory=list)
    """bytes of answers until the first cut, from there to the second, ..."""
    cuts_up: list[int] = field(default_factory=list)
    """bytes of requests"""
    down: int = 0
    """bytes of answers that went through"""
    up: int = 0
    heard: bytearray = field(default_factory=bytearray)
    """what clients said, as it was on the wire"""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def cut_all(self) -> None:
        """Cut every connection that is open."""
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target)
        except OSError:  # there is no listener now
            client.close()
            return
        with client, server:
            with self._lock:
                self._open |= {client, server}
            try:
                self._pass_on(client, server)
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        upward = threading.Thread(target=self._copy, args=(client, server, "up"), daemon=True)
        upward.start()
        self._copy(server, client, "down")
        upward.join()

    def _copy(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                passed = self._allowed(len(data), way)
                if way == "up":
                    self.heard += data[:passed]
                sink.sendall(data[:passed])
                if passed < len(data):
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        for end in (sink, source):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _allowed(self, size: int, way: str) -> int:
        """How many of the bytes may pass; fewer than `size` means that the connection is to be cut."""
        cuts: list[int] = getattr(self, f"cuts_{way}")
        with self._lock:
            if cuts and cuts[0] < size:
                size = cuts.pop(0)
            elif cuts:
                cuts[0] -= size
            setattr(self, way, getattr(self, way) + size)
            return size


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """A relay before the server at `url`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    listener = socket.create_server(("127.0.0.1", 0))
    relay = Relay((parts.hostname, parts.port), f"http://127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=relay._serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield relay
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
