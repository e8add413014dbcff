"""The job's own process: starts the single-user server on a unix socket, and lets the hub reach it.

Run as `python3 session.pyz CONFIG`, or as `token` says. CONFIG is a JSON file that only its owner may read, with

- `command`: the server's command line; `environment`: what it gets beside the job's own environment;
- `base_path`: its URL's path; `hub_api`: URL of the hub's API;
- `nonce`: the secret of the callback;
- `relay`: `{"url", "token", "ca_file"}`, or null: a TCP port of this node is opened instead;
- `shows_token`: whether the hub may be asked for a fresh token of the gateway;
- `time_limit`: the job's, in seconds, or null; `warn_before_end`: seconds before it at which the user is warned.

CONFIG stays where it is, since a requeued job runs again; the hub removes it in the end. Beside it is a file with one
byte for each run of the job.

It exits with the server's code, and ends the server when the hub does not know it any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from crestline.relay.agent import Agent, Config
from crestline.relay.server_socket import connect_unix
from crestline_jupyterhub.session import notice, token

CHUNK = 65536
HUB_CHECK_INTERVAL = 300.0
"""seconds between two reports of the server's address to the hub"""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""exit codes of a shell for a command that cannot be started"""
MAX_DISOWNED = 3
"""times in a row that the hub must disown the server before it ends"""


def main() -> None:
    """Run the session of a configuration file, as a command of the job."""
    if sys.argv[1] == "token":
        token.main()
        return
    file = Path(sys.argv[1])
    if file.stat().st_mode & 0o077:
        sys.exit(f"{file} holds secrets: only its owner may read it (chmod 600).")
    config = json.loads(file.read_text())
    folder = Path(tempfile.mkdtemp(prefix="crestline-"))  # mode 700; short, as a socket's path must be
    try:
        code = asyncio.run(Session(config, folder, count_run(file.with_suffix(".runs"))).run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


class Session:
    """The single-user server of one job, and the ways in which hub and proxy reach it."""

    def __init__(self, config: dict[str, Any], folder: Path, number: int) -> None:
        self._config = config
        self._number = number
        self._server_socket = str(folder / "server")
        self._hub_socket = str(folder / "hub")
        self._folder = folder
        self._tasks: list[asyncio.Future[Any]] = []

    async def run(self) -> int:
        """Until the server ends; its exit code, 128 and the signal's number where one ended it."""
        port = None
        if self._config["relay"] is None:
            front = await asyncio.start_server(self._join, self._config.get("bind", "0.0.0.0"), 0)  # noqa: S104
            port = front.sockets[0].getsockname()[1]
        command = self._command()
        try:
            process = await asyncio.create_subprocess_exec(*command, env=self._environment())
        except OSError as error:
            log(f"The server's command {command[0]} cannot be started: {error.strerror}.")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, pass_on, process, number)
        if self._config["relay"] is not None:
            self._supervise(self._relay(), process)
        self._supervise(self._report(port), process)
        code = await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return code if code >= 0 else 128 - code

    def _command(self) -> list[str]:
        return [*self._config["command"], f"--ServerApp.sock={self._server_socket}"]

    def _environment(self) -> dict[str, str]:
        """What the server gets; over the relay it finds the hub behind a socket, too."""
        environment = {**os.environ, **self._config["environment"]}
        end = notice.session_end(self._config.get("time_limit"))
        if end is not None:
            environment.update(notice.write(self._folder, end, self._config["warn_before_end"]))
        if self._config["shows_token"]:
            environment.setdefault(token.VARIABLE, token.command(sys.argv[0]))
        environment["JUPYTERHUB_SERVICE_URL"] = f"http+unix://{self._config['base_path']}"
        if self._config["relay"] is not None:
            hub = f"http+unix://{quote(self._hub_socket, safe='')}"
            for name in ("JUPYTERHUB_API_URL", "JUPYTERHUB_ACTIVITY_URL"):
                parts = urlsplit(environment[name])
                environment[name] = f"{hub}{parts.path}"
        return environment

    def _supervise(self, work: Any, process: asyncio.subprocess.Process) -> None:
        """Do it beside the server; where it gives up, the server is wanted no more."""

        def ended(task: asyncio.Future[Any]) -> None:
            if not task.cancelled() and task.exception() is not None:
                log(f"ending the server: {task.exception()}")
                pass_on(process, signal.SIGTERM)

        task = asyncio.ensure_future(work)
        task.add_done_callback(ended)
        self._tasks.append(task)

    async def _relay(self) -> None:
        relay = self._config["relay"]
        agent = Agent(Config(relay["url"], relay["token"], self._server_socket, self._hub_socket, relay.get("ca_file")))
        await agent.run()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection from the hub's proxy to the open port."""
        try:
            inner_reader, inner_writer = await connect_unix(self._server_socket)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async def _report(self, port: int | None) -> None:
        """Tell the hub once the server listens, and again now and then: the answer says whether it is still wanted."""
        while not self._listens():  # noqa: ASYNC110  (another process's socket)
            await asyncio.sleep(0.05)
        news = {"nonce": self._config["nonce"], "port": port, "run": self._number}
        if port is not None:
            news["host"] = self._address_towards_hub()
        await self._report_until_accepted(news)
        strange = 0
        while True:
            await asyncio.sleep(HUB_CHECK_INTERVAL)
            strange = strange + 1 if await self._call_hub(news) == 403 else 0
            if strange >= MAX_DISOWNED:
                raise RuntimeError("the hub does not know it any more")

    async def _report_until_accepted(self, news: dict[str, Any]) -> None:
        delay = 0.5
        while True:
            status = await self._call_hub(news)
            if status is not None and status < 300:
                return
            if status in (400, 403, 409):
                raise RuntimeError(f"the hub does not expect it (HTTP {status})")
            answer = "did not answer" if status is None else f"answered HTTP {status}"
            log(f"The hub {answer}, next try in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(2 * delay, 15.0)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._server_socket)
            except OSError:
                return False
        return True

    def _address_towards_hub(self) -> str:
        """The address of the interface from which this node reaches the hub; nothing is sent."""
        parts = urlsplit(self._config["hub_api"])
        family, kind, protocol, _, address = socket.getaddrinfo(
            parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])

    async def _call_hub(self, news: dict[str, Any]) -> int | None:
        """Call back; the hub's status, None without an answer."""
        data = json.dumps(news).encode()
        url = self._config["hub_api"] + "/crestline/callback"
        if self._config["relay"] is None:
            return await asyncio.get_running_loop().run_in_executor(None, post, url, data)
        parts = urlsplit(url)
        head = [
            f"POST {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
            "Connection: close",
        ]
        try:
            reader, writer = await asyncio.open_unix_connection(self._hub_socket)
            writer.write("\r\n".join([*head, "", ""]).encode() + data)
            status = (await reader.readline()).split(b" ")
            writer.close()
            return int(status[1])
        except (OSError, IndexError, ValueError):
            return None


def post(url: str, data: bytes) -> int | None:
    """A request over TCP; its status, None without an answer."""
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


def count_run(file: Path) -> int:
    """How many runs of the job there were, with this one."""
    with file.open("ab") as runs:
        runs.write(b".")
        return runs.tell()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of a connection, to its end."""
    try:
        while True:
            data = await reader.read(CHUNK)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


def pass_on(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to the server, if it is there."""
    if process.returncode is None:
        process.send_signal(number)


def log(text: str) -> None:
    """One line into the job's log."""
    print(f"[crestline] {text}", file=sys.stderr, flush=True)
