"""Loopback ports."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path


def free_port() -> int:
    """Return a port without a listener."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return different ports without listeners."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def until_open(port: int, process: subprocess.Popen[bytes], errors: Path) -> None:
    """Wait until a process accepts connections.

    Args:
        errors: its log, for the case that it ends instead.
    """
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError:
            assert process.poll() is None, f"it has ended: {errors.read_text()}"
            assert time.monotonic() < deadline, f"no process listens on port {port}"
            time.sleep(0.05)
