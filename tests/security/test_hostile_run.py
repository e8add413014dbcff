"""Strangers and a hostile user try everything at once on one gateway, and well-behaved clients keep getting answers.

The small size takes some seconds; `-m soak` is the full one, ten minutes.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from harness.gateway import GatewayProcess
from harness.ports import free_port

MIB = 1024 * 1024
CLIENTS = 20
MOST_MEMORY = 700 * MIB
"""bytes that the gateway may need more than before; without limits the first large form alone took as much"""
CONNECTIONS = {"max_connections": 400, "max_connections_per_address": 120, "head_timeout": 5.0, "body_timeout": 5.0}


@dataclass(frozen=True)
class Size:
    seconds: float
    """of attacks"""
    calm: float
    """seconds before, in which the same clients are counted without attacks"""


SMALL = Size(seconds=8, calm=2)
FULL = Size(seconds=600, calm=60)
MOST_SLOWDOWN = 50
"""times fewer answers a second, at most, that a client gets under attack; the attackers have most of the machine"""
KINDS = ("alive", "job", "write", "read", "token")


class Hostile:
    """Attackers on addresses of their own, with one user's token among them."""

    def __init__(self, gateway: GatewayProcess, seed: int) -> None:
        self._gateway = gateway
        self._port = int(gateway.url.rpartition(":")[2])
        self._random = random.Random(seed)
        self._token = gateway.token()
        self._lock = threading.Lock()
        self._number = 0
        self.over = threading.Event()
        self.done: Counter[str] = Counter()

    def attacks(self) -> dict[str, Callable[[], None]]:
        return {
            "endless URL": lambda: self._endless(b"GET /", b"a"),
            "endless header": lambda: self._endless(b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
            "endless headers": lambda: self._endless(b"GET / HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n"),
            "half heads": lambda: self._hold(b"GET /status/liveness HTTP/1.1\r\nHo", 100),
            "half bodies": lambda: self._hold(self._form(1000) + b"grant", 100),
            "trickles": self._trickle,
            "large forms": lambda: self._send(self._form(16 * MIB), b"a=b&" * 4 * MIB),
            "pipelines": lambda: self._send(b"", b"GET /status/liveness HTTP/1.1\r\nHost: x\r\n\r\n" * 5000),
            "failed sign-ins": self._fail,
            "forged tokens": self._forge,
            "small objects": lambda: self._post("/compute/local/jobs", b'{"x":[' + b"{}," * (5 * MIB) + b"{}]}"),
            "empty jobs": lambda: self._post("/compute/local/jobs/batch", b'{"jobs":[' + b"{}," * (5 * MIB) + b"{}]}"),
            "many files": self._manifest,
            "nested": lambda: self._post("/filesystem/local/ops/mkdir", b'{"path":' + b"[" * 60_000),
            "many lines": self._lines,
            "answers that are not read": self._leave,
            "locks": self._lock_jobs,
        }

    def attacks_by_files(self) -> dict[str, Callable[[], None]]:
        """Those on what is packed, unpacked and uploaded."""
        return {
            "small archives": self._archive,
            "patterns": self._pattern,
            "uploads that stop": self._stop_uploading,
        }

    def run(self, name: str, attack: Callable[[], None]) -> None:
        while not self.over.is_set():
            with suppress(OSError, httpx.HTTPError, sqlite3.Error):
                attack()
            self.done[name] += 1

    def connect(self) -> socket.socket:
        with self._lock:
            self._number += 1
            source = f"127.0.1.{self._number % 8 + 1}"
        return socket.create_connection(("127.0.0.1", self._port), timeout=10, source_address=(source, 0))

    def http(self) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address="127.0.1.9")
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self._gateway.url, transport=transport, headers=headers, timeout=30)

    def _form(self, size: int) -> bytes:
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        return b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\n" + kind + b"Content-Length: %d\r\n\r\n" % size

    def _send(self, before: bytes, body: bytes) -> None:
        with self.connect() as connection:
            connection.sendall(before + body)
            connection.recv(65536)

    def _endless(self, before: bytes, piece: bytes) -> None:
        with self.connect() as connection:
            connection.sendall(before)
            for _ in range(64):
                connection.sendall(piece * (MIB // len(piece)))

    def _hold(self, begin: bytes, count: int) -> None:
        held = []
        try:
            for _ in range(count):
                held.append(self.connect())
                held[-1].sendall(begin)
            self.over.wait(self._random.uniform(0.5, 10))
        finally:
            for each in held:
                each.close()

    def _trickle(self) -> None:
        with self.connect() as connection:
            connection.sendall(self._random.choice([b"GET /", self._form(10_000)]))
            while not self.over.wait(0.2):
                connection.sendall(b"a")

    def _fail(self) -> None:
        with self.http() as http:
            for _ in range(20):
                form = {"grant_type": "client_credentials", "scope": "x" * 8000}
                http.post(f"/oauth2/token?path={'x' * 16_000}", data=form, auth=(self._gateway.client[0], "wrong"))

    def _forge(self) -> None:
        with self.http() as http:
            for _ in range(20):
                http.get("/status/systems", headers={"Authorization": f"Bearer {self._token[:-8]}AAAAAAAA"})

    def _post(self, path: str, body: bytes) -> None:
        with self.http() as http:
            http.post(path, content=body)

    def _manifest(self) -> None:
        files = {f"{number:07x}": "" for number in range(150_000)}
        self._post("/filesystem/local/ops/manifest", json.dumps({"path": self._place(), "files": files}).encode())

    def _lines(self) -> None:
        with self.http() as http:
            for lines in (-1, 3 * MIB, -3 * MIB):
                http.get("/filesystem/local/ops/head", params={"path": f"{self._place()}/lines", "lines": lines})

    def _leave(self) -> None:
        with self.connect() as connection:
            path = f"{self._place()}/lines"
            head = f"GET /filesystem/local/ops/content?path={path} HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(f"{head}Authorization: Bearer {self._token}\r\n\r\n".encode())
            self.over.wait(8)

    def _lock_jobs(self) -> None:
        (file,) = (self._gateway.home / "private").rglob("jobs.db")
        locker = sqlite3.connect(file, isolation_level=None)
        try:
            locker.execute("BEGIN IMMEDIATE")
            self.over.wait(1)
            locker.execute("ROLLBACK")
        finally:
            locker.close()
        self.over.wait(3)

    def _archive(self) -> None:
        name = io.BytesIO()
        with gzip.open(name, "wb") as packed:
            header = bytearray(b"././@LongLink".ljust(100, b"\0") + b"0000644\0" * 3 + b"%011o\0" % (512 * MIB))
            header += b"0" * 12 + b" " * 8 + b"L" + b"\0" * 100 + b"ustar  \0"
            header = header.ljust(512, b"\0")
            header[148:156] = b"%06o\0 " % sum(header)
            packed.write(header)
            for _ in range(512):
                packed.write(b"a" * MIB)
        with self.http() as http:
            http.put("/filesystem/local/ops/tar", params={"path": self._place()}, content=name.getvalue())

    def _pattern(self) -> None:
        place = self._place()
        body = {"path": place, "targetPath": f"{place}/x.tar", "matchPattern": r".*\(a*\)*\1\1\1b$"}
        self._post("/filesystem/local/ops/compress", json.dumps(body).encode())

    def _stop_uploading(self) -> None:
        with self.connect() as connection:
            head = f"PUT /filesystem/local/ops/content?path={self._place()}/part HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(f"{head}Authorization: Bearer {self._token}\r\nContent-Length: 9999\r\n\r\nx".encode())
            self.over.wait(8)

    def _place(self) -> str:
        return str(self._gateway.home / "files")


class WellBehaved:
    """Ask for this and that, one after the other; a connection closed between two requests is not a failure."""

    def __init__(self, gateway: GatewayProcess, number: int) -> None:
        self._gateway = gateway
        self._headers = {"Authorization": f"Bearer {gateway.token()}"}  # before the attacks: the harness waits for less
        self._file = f"{gateway.home}/files/of-{number}"
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, job_id: str, over: threading.Event) -> None:
        content = "/filesystem/local/ops/content"
        with httpx.Client(base_url=self._gateway.url, headers=self._headers, timeout=60, trust_env=False) as http:
            while not over.is_set():
                self._count("alive", 200, lambda: http.get("/status/liveness"))
                self._count("job", 200, lambda: http.get(f"/compute/local/jobs/{job_id}"))
                self._count("write", 204, lambda: http.put(content, params={"path": self._file}, content=b"x" * 1000))
                self._count("read", 200, lambda: http.get(content, params={"path": self._file}))
                self._count("token", 200, self._token)
                over.wait(0.1)

    def has_all(self) -> bool:
        """Whether an answer of each kind came, or one failed."""
        return bool(self.failures) or all(self.answers[what] for what in KINDS)

    def _token(self) -> httpx.Response:
        form = {"grant_type": "client_credentials"}
        return httpx.post(self._gateway.token_url, data=form, auth=self._gateway.client, timeout=60, trust_env=False)

    def _count(self, what: str, wanted: int, ask: Callable[[], httpx.Response]) -> None:
        for attempt in range(3):
            try:
                answer = ask()
            except httpx.TransportError as error:
                if attempt == 2 or isinstance(error, httpx.TimeoutException):
                    self.failures.append(f"{what}: {error!r}")
                    return
                continue
            if answer.status_code == wanted:
                self.answers[what] += 1
            else:
                self.failures.append(f"{what}: {answer.status_code} {answer.text[:200]}")
            return


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    file = tmp_path / "gateway.toml"
    lines = [f"{name} = {value}" for name, value in CONNECTIONS.items()]
    file.write_text("[issuer]\ntoken_lifetime = 3600\n\n[limits]\n" + "\n".join(lines) + "\n")
    running = GatewayProcess(tmp_path / "home", free_port(), "--config", str(file))
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [SMALL, pytest.param(FULL, marks=pytest.mark.soak)], ids=["small", "full"])
def test_well_behaved_clients_are_answered_during_all_attacks(gateway: GatewayProcess, size: Size) -> None:
    (gateway.home / "files" / "lines").write_bytes(b"\n" * (20 * MIB))
    with gateway.http() as http:
        job = {"script": "#!/bin/sh\ntrue\n", "workingDirectory": "/tmp"}
        job_id = http.post("/compute/local/jobs", json={"job": job}).json()["jobId"]
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    memory = highest = process.memory_info().rss
    audit_before = _database_size(gateway)
    hostile = Hostile(gateway, seed=14)
    attacks = hostile.attacks() | (hostile.attacks_by_files() if size is FULL else {})
    clients = [WellBehaved(gateway, number) for number in range(CLIENTS)]
    attacking = [threading.Thread(target=hostile.run, args=each, daemon=True) for each in attacks.items()]
    asking = [threading.Thread(target=each.run, args=(job_id, hostile.over), daemon=True) for each in clients]
    for thread in asking:
        thread.start()
    begin = time.monotonic()
    while time.monotonic() - begin < size.calm or not all(each.has_all() for each in clients):
        assert time.monotonic() - begin < 300, [each.answers for each in clients]
        time.sleep(0.1)
    calm = [sum(each.answers.values()) / (time.monotonic() - begin) for each in clients]
    for each in clients:
        each.answers.clear()
    for thread in attacking:
        thread.start()
    begin = time.monotonic()
    while time.monotonic() - begin < size.seconds or not all(each.has_all() for each in clients):
        highest = max(highest, process.memory_info().rss)
        assert process.num_fds() < 1000
        assert all(thread.is_alive() for thread in asking), "a client of this test has ended by itself"
        assert time.monotonic() - begin < 1500, [each.answers for each in clients]
        time.sleep(0.2)
    ratios = [
        sum(each.answers.values()) / (time.monotonic() - begin) / before
        for each, before in zip(clients, calm, strict=True)
    ]
    hostile.over.set()
    for thread in (*attacking, *asking):
        thread.join(90)
    told = f"answers under attack to those without {min(ratios):.3f}-{max(ratios):.3f}"
    print(f"{told}, {(highest - memory) / MIB:.0f} MiB, {dict(hostile.done)}")
    assert [each.failures for each in clients if each.failures] == []
    assert min(ratios) * MOST_SLOWDOWN >= 1
    assert {name for name in attacks if not hostile.done[name]} == set()
    assert highest - memory < MOST_MEMORY
    assert _database_size(gateway) - audit_before < 20 * MIB


def _database_size(gateway: GatewayProcess) -> int:
    return sum(each.stat().st_size for each in (gateway.home / "private").glob("gateway.db*"))
