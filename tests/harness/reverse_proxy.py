"""A real reverse proxy (npm's configurable-http-proxy) that serves a gateway under a prefix, and strips it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from harness.parts import require
from harness.ports import free_port

_PROGRAM = Path(__file__).parents[1] / "hub_proxy" / "node_modules" / ".bin" / "configurable-http-proxy"


class ReverseProxy:
    """The proxy as a process. Requests to `url` reach `target` without the prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._port, self._api_port = free_port(), free_port()
        self._token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self._port}{prefix}"
        command = [str(_PROGRAM), "--ip=127.0.0.1", f"--port={self._port}", "--no-include-prefix"]
        self._process = subprocess.Popen(
            [*command, "--api-ip=127.0.0.1", f"--api-port={self._api_port}"],
            env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": self._token},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def serve(self, target: str) -> None:
        """Route the prefix to a gateway."""
        routes = f"http://127.0.0.1:{self._api_port}/api/routes{self.prefix}"
        deadline = time.monotonic() + 60
        while True:
            try:
                headers = {"Authorization": f"token {self._token}"}
                answer = httpx.post(routes, json={"target": target}, headers=headers, trust_env=False)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the proxy did not start"
                time.sleep(0.05)
            else:
                answer.raise_for_status()
                return

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def reverse_proxy(prefix: str) -> Iterator[ReverseProxy]:
    """A proxy that runs; it knows no gateway yet."""
    require(shutil.which("node") is not None, "there is no `node`: install Node.js 20 or newer")
    require(_PROGRAM.exists(), "configurable-http-proxy is not installed: run `npm ci` in tests/hub_proxy")
    proxy = ReverseProxy(prefix)
    try:
        yield proxy
    finally:
        proxy.stop()
