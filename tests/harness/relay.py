"""A relay of its own, a hub's key, and jobs' ends of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crestline.relay.agent import Agent, Config
from crestline.relay.config import HubConfig, RelayConfig
from crestline.relay.standalone import Server
from crestline.relay.tokens import HubKey, Session
from harness.ports import free_ports
from harness.waiting import until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """A request as the server behind the relay gets it."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The head of one, read without mercy for any other form than the plain one."""
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1"
    assert "\n" not in "".join(lines)
    return Request(
        method, target, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, raw
    )


@dataclass
class Relayed:
    """A running relay for one hub."""

    server: Server
    port: int
    key: HubKey
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/relay"

    @property
    def ingress(self) -> int:
        return self.server.relay.hubs[0].ingress.port

    def session(
        self, user: str = "alice", path: str = "/user/alice/", hub_api: str = "http://127.0.0.1:9/hub/api"
    ) -> tuple[Session, str]:
        return self.key.new_session(user=user, path=path, hub_api=hub_api, lifetime=3600)

    def config(self, token: str, name: str = "job") -> Config:
        return Config(
            url=f"{self.url}/agents",
            token=token,
            server_socket=str(self.folder / f"{name}.server"),
            hub_socket=str(self.folder / f"{name}.hub"),
        )

    @asynccontextmanager
    async def agent(self, token: str, name: str = "job") -> AsyncIterator[asyncio.Task[None]]:
        """An agent, connected."""
        task = asyncio.create_task(Agent(self.config(token, name)).run())
        try:
            await self.connected(token)
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def connected(self, token: str) -> None:
        session = self.key.session(token)
        sessions = self.server.relay.hubs[0].sessions
        await until(lambda: (place := sessions.find(session.id)) is not None and place.mux is not None)

    @asynccontextmanager
    async def job(self, handler: Handler, name: str = "job", backlog: int = 100) -> AsyncIterator[None]:
        """What listens inside the job."""
        server = await asyncio.start_unix_server(handler, self.folder / f"{name}.server", backlog=backlog)
        try:
            yield
        finally:
            server.close()

    async def get(self, path: str, *headers: str) -> bytes:
        """The whole answer to one request at the ingress."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ingress)
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: hub", *headers, "", ""])
        writer.write(head.encode())
        try:
            return await reader.read()
        finally:
            writer.close()


def key_file(folder: Path, name: str = "relay.key") -> Path:
    file = folder / name
    file.write_text("a test's key that is long enough: 0123456789abcdef\n")
    file.chmod(0o600)
    return file


@asynccontextmanager
async def serving(folder: Path, port: int = 0, **settings: Any) -> AsyncIterator[Relayed]:
    """A relay; `settings` are further ones of its hub."""
    file = key_file(folder)
    config = RelayConfig(hubs={"test": HubConfig(key_file=str(file), ingress="127.0.0.1:0", **settings)})
    server = Server(config, "127.0.0.1", port)
    ready = asyncio.Event()
    server.on_ready = ready.set
    task = asyncio.create_task(server.serve(sockets=[]))
    await ready.wait()
    try:
        yield Relayed(server, server.address[1], HubKey(file.read_bytes()), folder)
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relayed]:
    async with serving(tmp_path) as running:
        yield running


@contextmanager
def relay_process(folder: Path, machine: str) -> Iterator[str]:
    """`crestline relay` at an address of this machine that jobs reach; yields the spawner's settings."""
    port, ingress = free_ports(2)
    file = key_file(folder)
    config = folder / "relay.toml"
    config.write_text(f'[hubs.test]\nkey_file = "{file}"\ningress = "127.0.0.1:{ingress}"\n')
    command = [str(Path(sys.executable).with_name("crestline")), "relay", "--config", str(config)]
    process = subprocess.Popen([*command, "--host", machine, "--port", str(port), "--allow-plain-http"])
    try:
        yield f"""
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_key_file = "{file}"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:{ingress}"
c.FirecRESTSpawner.relay_url = "http://{machine}:{port}/relay"
"""
    finally:
        process.terminate()
        process.wait(60)
