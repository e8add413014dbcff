"""A real PostgreSQL server on a free loopback port, with a data folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.parts import require

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
_PASSWORD = "of-the-tests"


class PostgresServer:
    """The server as a process; `database` may be made as often as needed. Root is not a user that it runs as."""

    def __init__(self) -> None:
        self._user = "postgres" if os.geteuid() == 0 else None
        self._binaries = _BINARIES[-1].parent
        self._data = Path(tempfile.mkdtemp(prefix="crestline-postgresql-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(self._data, self._user)
        password = self._data.with_suffix(".password")
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        options = ["--auth=scram-sha-256", "--username=crestline", f"--pwfile={password}", "--no-sync"]
        self._run("initdb", "-D", str(self._data), *options)
        password.unlink()

    def url(self, database: str = "postgres", password: str = _PASSWORD) -> str:
        """Where a database is."""
        return f"postgresql://crestline:{password}@127.0.0.1:{self._port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql; what it prints, without headers."""
        return self._run("psql", "--no-psqlrc", "-qtAX", self.url(database), "-c", statement).strip()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = ["-p", str(self._port), "-h", "127.0.0.1", "-k", str(self._data), "-F"]
        self._process = subprocess.Popen(
            [str(self._binaries / "postgres"), "-D", str(self._data), *options],
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        deadline = time.monotonic() + 60
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < deadline, "PostgreSQL is not ready"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop, without waiting for clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:  # a client holds it up
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(60)
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        for process in self._family():
            process.suspend()

    def resume(self) -> None:
        """Let it go on."""
        for process in self._family():
            process.resume()

    def remove(self) -> None:
        """Stop, and delete the data."""
        self.stop()
        shutil.rmtree(self._data)

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(command, user=self._user, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout


def _can_run() -> bool:
    if os.geteuid() != 0:
        return True
    return any(entry.pw_name == "postgres" for entry in pwd.getpwall())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """The server, for the whole session. A test that stops or pauses it brings it back."""
    require(bool(_BINARIES) and _can_run(), "there is no PostgreSQL server: install Debian's `postgresql`")
    server = PostgresServer()
    server.start()
    yield server
    server.remove()
