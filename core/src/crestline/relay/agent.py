"""The job's end of the relay: dials out, and joins what comes in with the server's unix socket.

Run as `python3 agent.pyz CONFIG -- COMMAND...`: starts the command, keeps the relay's connection up while it runs, and
exits with its code. CONFIG is a JSON file that only its owner may read, see `Config`. No TCP port is opened on the
compute node. Everything that it imports runs on Python 3.9 with nothing installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from crestline.relay.mux import ChannelLostError, Multiplexer, Stream
from crestline.relay.server_socket import connect_unix
from crestline.relay.splice import give_up, splice
from crestline.relay.websocket import RefusedError, WebSocket, connect

PING_INTERVAL = 20.0
SILENCE_LIMIT = 65.0
"""Seconds without a message from the relay after which the connection counts as lost."""
RETRY_LIMIT = 15.0
"""Maximum seconds between two attempts to connect."""
HUB_PATIENCE = 60.0
"""Seconds for which a call to the hub waits for the connection."""
GONE = 410
"""The relay's status for a session that has been ended or replaced."""


class Config(NamedTuple):
    """Settings of the agent, read from its configuration file."""

    url: str
    """URL of the relay's endpoint for agents."""
    token: str
    """Token of the session."""
    server_socket: str
    """Path of the unix socket of the server in the job."""
    hub_socket: str
    """Path of the unix socket to create, behind which the hub's API answers."""
    ca_file: str | None = None
    """PEM file of the authority that signed the relay's certificate."""

    @classmethod
    def load(cls, file: Path) -> Config:
        """Read the file.

        Raises:
            PermissionError: other users can read it.
        """
        if file.stat().st_mode & 0o077:
            raise PermissionError(f"{file} holds a secret: only its owner may read it (chmod 600).")
        return cls(**json.loads(file.read_text()))


class SessionEndedError(Exception):
    """The relay has ended this session, or a newer one has taken its place, so the server must end."""


class Agent:
    """Keeps a connection to the relay open."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._mux: Multiplexer | None = None
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            SessionEndedError: the relay has ended this session.
        """
        hub = await asyncio.start_unix_server(self._to_hub, self._config.hub_socket)
        os.chmod(self._config.hub_socket, 0o600)
        try:
            delay = 0.5
            while True:
                started = time.monotonic()
                try:
                    await self._run_connection()
                except RefusedError as refusal:
                    if refusal.status == GONE:
                        raise SessionEndedError(str(refusal)) from refusal
                    log(str(refusal))
                except (OSError, ValueError) as error:
                    log(f"No connection to the relay: {error}")
                delay = 0.5 if time.monotonic() - started > RETRY_LIMIT else min(2 * delay, RETRY_LIMIT)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  (spreads load, guards nothing)
        finally:
            hub.close()

    async def _run_connection(self) -> None:
        """Serve one connection from its handshake to its end."""
        headers = {"Authorization": f"Bearer {self._config.token}"}
        job = next((os.environ[name] for name in ("SLURM_JOB_ID", "PBS_JOBID", "HQ_JOB_ID") if name in os.environ), "")
        if job:
            headers["Crestline-Job-Id"] = job
        socket = await connect(self._config.url, headers, self._config.ca_file)
        log("connected")
        self._mux = mux = Multiplexer(socket.send, opens_even=False, on_open=self._to_server)
        self._connected.set()
        pinging = asyncio.ensure_future(_keep_alive(socket))
        try:
            while True:
                message = await socket.receive()
                if message is None:
                    return
                await mux.receive(message)
        finally:
            self._connected.clear()
            pinging.cancel()
            mux.close()
            socket.close()

    async def _to_server(self, stream: Stream, _purpose: str) -> None:
        try:
            reader, writer = await connect_unix(self._config.server_socket)
        except OSError:  # the server does not listen yet, or no longer
            await give_up(stream)
            return
        await splice(stream, reader, writer)

    async def _to_hub(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(self._connected.wait(), HUB_PATIENCE)
            if self._mux is None:
                raise ChannelLostError("The relay's channel is gone.")
            stream = await self._mux.open("hub")
        except (asyncio.TimeoutError, ConnectionError):  # noqa: UP041  (two classes below Python 3.11)
            writer.close()
            return
        await splice(stream, reader, writer)


async def _keep_alive(socket: WebSocket) -> None:
    while True:
        await asyncio.sleep(PING_INTERVAL)
        if time.monotonic() - socket.heard > SILENCE_LIMIT:
            socket.abort()
            return
        await socket.ping()


async def run_command(config: Config, command: list[str]) -> int:
    """Run the command beside an agent and return its exit code, or 128 plus the number of the signal that ended it."""
    process = await asyncio.create_subprocess_exec(*command)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, _pass_on, process, number)
    agent = asyncio.ensure_future(Agent(config).run())
    waiting: asyncio.Future[Any] = asyncio.ensure_future(process.wait())
    await asyncio.wait([agent, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        log(f"ending the server: {agent.exception()}")
        _pass_on(process, signal.SIGTERM)
    code: int = await waiting
    agent.cancel()
    await asyncio.gather(agent, return_exceptions=True)
    return code if code >= 0 else 128 - code


def _pass_on(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        process.send_signal(number)


def log(text: str) -> None:
    """Write a line to the job's stderr."""
    print(f"[crestline relay] {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the agent as a program: `agent.pyz CONFIG -- COMMAND...`."""
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit("usage: agent.pyz CONFIG -- COMMAND...")
    sys.exit(asyncio.run(run_command(Config.load(Path(sys.argv[1])), sys.argv[3:])))
