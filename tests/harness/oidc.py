"""A real OpenID Connect provider (`tests/oidc_provider`, npm's oidc-provider) on a loopback port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness.parts import require

FOLDER = Path(__file__).parents[1] / "oidc_provider"


class OidcProvider:
    """The provider as a process; its issuer stays the same when it is stopped and started.

    Args:
        redirect_uri: where users return after signing in; empty: users cannot sign in.
        lifetime: seconds that an access token lives.
    """

    audience = "https://hpc.test"
    hub_client = ("hub-client", "hub-client-secret-of-the-tests")

    def __init__(self, redirect_uri: str = "", lifetime: int = 300) -> None:
        self._arguments = [redirect_uri, str(lifetime)] if redirect_uri else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.issuer = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, kid: str = "first") -> None:
        """Serve; another `kid` comes with another key."""
        self._process = subprocess.Popen(
            ["node", str(FOLDER / "provider.js"), str(self._port), kid, *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert "READY" in self._process.stdout.readline()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=30)
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def token(self, user: str, resource: str | None = None, scope: str = "firecrest") -> str:
        """An access token by client credentials."""
        form = {"grant_type": "client_credentials", "scope": scope}
        answer = httpx.post(
            f"{self.issuer}/token",
            data=form | ({"resource": resource} if resource else {}),
            auth=(f"{user}-client", f"{user}-client-secret-of-the-tests"),
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@contextmanager
def serving(redirect_uri: str = "", lifetime: int = 300) -> Iterator[OidcProvider]:
    """A provider that serves."""
    require(shutil.which("node") is not None, "there is no `node`: install Node.js 20 or newer")
    require(
        (FOLDER / "node_modules" / "oidc-provider").is_dir(),
        "oidc-provider is not installed: run `npm ci` in tests/oidc_provider",
    )
    provider = OidcProvider(redirect_uri, lifetime)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def oidc_provider() -> Iterator[OidcProvider]:
    """A provider that serves."""
    with serving() as provider:
        yield provider
