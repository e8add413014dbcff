"""A real gateway on a free loopback port: in a thread, or as a process that a test may kill."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HOMES = Path(tempfile.mkdtemp(prefix="crestline-tests-", dir="/var/tmp"))
"""where the homes of the run's gateways really are: one in the temporary directory, where pytest works, would keep the
gateway from serving that directory"""
atexit.register(shutil.rmtree, HOMES, ignore_errors=True)


def place_home(home: Path) -> None:
    """Let a state directory that is yet to be made lie outside the temporary directory."""
    if not home.exists():
        home.symlink_to(tempfile.mkdtemp(dir=HOMES))


@dataclass
class RunningGateway:
    """How to reach it."""

    url: str
    home: Path
    system: str = "local"

    @property
    def token_url(self) -> str:
        return f"{self.url}/oauth2/token"

    @property
    def client(self) -> tuple[str, str]:
        """Id and secret of the first client."""
        content = json.loads((self.home / "client.json").read_text())
        return content["client_id"], content["client_secret"]

    def token(self, client: tuple[str, str] | None = None, **form: str) -> str:
        answer = httpx.post(
            self.token_url,
            data={"grant_type": "client_credentials", **form},
            auth=client or self.client,
            verify=False,  # reading the machine's authorities takes longer than the request
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def http(self, client: tuple[str, str] | None = None) -> httpx.Client:
        """A plain HTTP client with a token, renewed in time for as long as the client is in use."""
        return httpx.Client(base_url=self.url, auth=_Tokens(self, client), timeout=60, trust_env=False, verify=False)


class _Tokens(httpx.Auth):
    """A token for requests that bring no credential, fetched again long before it expires."""

    def __init__(self, gateway: RunningGateway, client: tuple[str, str] | None) -> None:
        self._gateway = gateway
        self._client = client
        self._renew()

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        if "Authorization" not in request.headers and "X-API-Key" not in request.headers:
            if time.monotonic() > self._until:
                self._renew()
            request.headers["Authorization"] = f"Bearer {self.token}"
        yield request

    def _renew(self) -> None:
        self.token = self._gateway.token(self._client)
        self._until = time.monotonic() + 100


@contextmanager
def in_thread(home: Path, **options: Any) -> Iterator[RunningGateway]:
    """A gateway in this process; `options` are those of its configuration file."""
    from crestline.gateway.config import load_config
    from crestline.gateway.server import Server

    place_home(home)
    # Most tests have several users on this machine, as the operator of no gateway should.
    server = Server(load_config(state_dir=home, **{"trust_all_users": True} | options), port=0)
    thread = threading.Thread(target=server.run_forever, daemon=True)
    thread.start()
    _wait_until_up(server.url, lambda: thread.is_alive())
    try:
        yield RunningGateway(server.url, home)
    finally:
        _cancel_everything(RunningGateway(server.url, home))  # jobs outlive a gateway
        server.should_exit = True
        thread.join(30)
        if thread.is_alive():
            raise TimeoutError("the gateway did not stop")


def _cancel_everything(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        for system in http.get("/status/systems").json()["systems"]:
            if not system["scheduler"]["version"].startswith("local"):
                continue  # a cluster in a container, whose jobs end with it
            url = f"/compute/{system['name']}/jobs"
            answer = http.get(url, params={"allusers": True, "time_window": "1h"})
            if answer.status_code in (403, 503):
                continue  # a system that the first client may not use, or one in maintenance
            for job in answer.json()["jobs"]:
                if job["status"]["state"] in ("PENDING", "RUNNING", "SUSPENDED"):
                    http.delete(f"{url}/{job['jobId']}")


class GatewayProcess(RunningGateway):
    """`crestline serve` as a process of its own."""

    def __init__(self, home: Path, port: int, *arguments: str) -> None:
        super().__init__(f"http://127.0.0.1:{port}", home)
        place_home(home)
        self._port = port
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_name(f"{home.name}.log")
        """what it says on stderr"""

    def start(self) -> None:
        environment = os.environ | {"CRESTLINE_SITES": str(self.home.with_name(f"{self.home.name}-sites.toml"))}
        command = [
            str(Path(sys.executable).with_name("crestline")),
            "serve",
            "--trust-all-users",
            "--state-dir",
            str(self.home),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self._port), *self._arguments],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            _wait_until_up(self.url, lambda: self.process is not None and self.process.poll() is None)
        except (RuntimeError, TimeoutError):
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(90)


def _wait_until_up(url: str, alive: Any) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if not alive():
            raise RuntimeError("the gateway ended while it started")
        try:
            if httpx.get(f"{url}/status/liveness", trust_env=False, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(f"no gateway at {url}")
