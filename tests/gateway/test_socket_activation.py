"""A listening socket that systemd passes to the gateway."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crestline.model import ConfigError
from crestline.serving import server
from harness.gateway import in_thread


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def activate(monkeypatch: pytest.MonkeyPatch, passed: socket.socket, count: str = "1") -> None:
    """Pass a copy of a socket to this process, as systemd does."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", "crestline.socket")
    monkeypatch.setattr(server, "_FIRST_ACTIVATED", os.dup(passed.fileno()))


def test_connections_outlast_a_restart(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    activate(monkeypatch, listener)
    with in_thread(tmp_path / "home") as gateway:
        assert gateway.url == url
        assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()
    with socket.create_connection(listener.getsockname(), timeout=60) as waiting:  # no gateway is there
        waiting.sendall(b"GET /status/liveness HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        activate(monkeypatch, listener)
        with in_thread(tmp_path / "home"):
            assert waiting.recv(12) == b"HTTP/1.1 200"
            assert httpx.get(f"{url}/status/liveness", verify=False).status_code == 200


def test_a_socket_of_another_process_is_not_taken(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    activate(monkeypatch, listener)
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    assert server.take_activated_socket() is None
    os.close(server._FIRST_ACTIVATED)


def test_other_sockets_are_refused(listener: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket() as not_listening,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(tmp_path / "socket"))
        local.listen()
        for passed in (datagrams, not_listening, local):
            activate(monkeypatch, passed)
            with pytest.raises(ConfigError, match="not a listening TCP socket"):
                server.take_activated_socket()
        activate(monkeypatch, listener, count="2")
        with pytest.raises(ConfigError, match="systemd passed 2 sockets"):
            server.take_activated_socket()
        os.close(server._FIRST_ACTIVATED)
