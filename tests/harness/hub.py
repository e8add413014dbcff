"""A real JupyterHub with its real proxy, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from harness.parts import require
from harness.ports import free_ports
from harness.waiting import until_blocking

PROXY = Path(__file__).parents[1] / "hub_proxy" / "node_modules" / ".bin" / "configurable-http-proxy"
TOKEN = "a-token-of-the-tests-alone"
PASSWORD = "a-password-that-is-long-enough-for-the-hub"

CONFIG = """
import os
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_bind_url = "http://{host}:{hub_port}"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.auth_token = "the-proxys-own-token"
c.ConfigurableHTTPProxy.pid_file = "{folder}/proxy.pid"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = "{password}"
c.SharedPasswordAuthenticator.admin_password = "{password}-of-the-admin"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "firecrest"
c.Spawner.args = ["--allow-root"]
c.Spawner.http_timeout = 120
c.Spawner.start_timeout = 240
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = True
c.JupyterHub.init_spawners_timeout = 1
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{
        "name": "tests",
        "scopes": ["admin:users", "admin:servers", "access:servers", "tokens", "list:users", "read:hub"],
        "services": ["tests"],
    }}
]
{more}
"""


class Hub:
    """One hub in a folder of its own.

    Args:
        settings: further lines of the configuration file.
        environment: what the hub gets beside the tests' own variables: which gateway there is.
        host: where the hub's API listens, so that jobs reach it.
        port: where its proxy listens; 0: on any.
        python: the interpreter of an environment with another JupyterHub.
    """

    def __init__(
        self,
        folder: Path,
        settings: str,
        environment: dict[str, str],
        host: str = "127.0.0.1",
        port: int = 0,
        python: str = sys.executable,
    ) -> None:
        require(PROXY.exists(), "The hub's proxy is missing: run `npm ci` in tests/hub_proxy.")
        self.folder = folder
        self.host = host
        self.python = python
        self.settings = settings
        self._environment = environment
        self._port, self._hub_port, self._api_port = free_ports(3)
        self._port = port or self._port
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "config.py").write_text(
            CONFIG.format(
                url=self.url,
                host=host,
                hub_port=self._hub_port,
                api_port=self._api_port,
                proxy=PROXY,
                folder=folder,
                password=PASSWORD,
                token=TOKEN,
                more=settings,
            )
        )

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        path = f"{Path(self.python).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path} | self._environment
        command = [self.python, "-m", "jupyterhub", "--config", str(self.folder / "config.py")]
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.wait(lambda: self._answers(), "the hub did not start")

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the hub ended: {self.log()[-3000:]}")
        try:
            return self.http().get("/hub/api/").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL: the hub alone; its proxy stays, as after a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End hub and proxy; servers stay."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        pid_file = self.folder / "proxy.pid"
        if pid_file.exists():
            try:
                os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGTERM)
            except ProcessLookupError:
                return

    def http(self) -> httpx.Client:
        """The hub as its administrator's program sees it."""
        headers = {"Authorization": f"token {TOKEN}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False, follow_redirects=True
        )

    @contextmanager
    def browser(self, user: str) -> Iterator[httpx.Client]:
        """The hub as a signed-in user sees it."""
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False, follow_redirects=True) as browser:
            browser.get("/hub/login")
            form = {"username": user, "password": PASSWORD, "_xsrf": browser.cookies["_xsrf"]}
            browser.post("/hub/login", params={"next": "/hub/home"}, data=form).raise_for_status()
            yield browser

    def spawn(self, user: str, options: dict[str, Any] | None = None, server: str = "") -> httpx.Response:
        """Ask for a server; it starts by and by."""
        with self.http() as http:
            http.post(f"/hub/api/users/{user}")
            path = f"/hub/api/users/{user}/servers/{server}" if server else f"/hub/api/users/{user}/server"
            return http.post(path, json=options or {})

    def server(self, user: str, name: str = "") -> dict[str, Any] | None:
        """What the hub says of a server."""
        with self.http() as http:
            servers = http.get(f"/hub/api/users/{user}?include_stopped_servers=1").json().get("servers", {})
        return servers.get(name)

    def ready(self, user: str, name: str = "") -> dict[str, Any]:
        """The server once it is ready."""

        def is_ready() -> bool:
            server = self.server(user, name)
            if server is None or (not server["ready"] and not server["pending"]):
                raise RuntimeError(f"the server did not start: {self.log()[-4000:]}")
            return bool(server["ready"])

        self.wait(is_ready, "the server did not become ready")
        found = self.server(user, name)
        assert found is not None
        return found

    def stop_server(self, user: str, name: str = "") -> None:
        with self.http() as http:
            path = f"/hub/api/users/{user}/servers/{name}" if name else f"/hub/api/users/{user}/server"
            http.delete(path).raise_for_status()
        self.wait(lambda: not (self.server(user, name) or {}).get("pending") and not self._is_up(user, name), "stop")

    def _is_up(self, user: str, name: str) -> bool:
        server = self.server(user, name)
        return server is not None and bool(server["ready"])

    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")

    def wait(self, condition: Callable[[], Any], failed: str, seconds: float = 240) -> None:
        """Wait for a condition; the error has the end of the log."""
        try:
            until_blocking(condition, seconds)
        except TimeoutError:
            raise TimeoutError(f"{failed}: {self.log()[-4000:]}") from None
