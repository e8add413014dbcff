"""Large files through one gateway process that stays small, on this machine and over SSH, each way that there is."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomlkit

from harness.cluster import Cluster
from harness.gateway import GatewayProcess
from harness.ports import free_ports
from harness.s3 import S3Server
from harness.slurm_gateway import SlurmGateway, prepare

MIB = 1024 * 1024
BOUND = 300 * MIB
BLOCK = random.Random(5).randbytes(MIB)

sizes = pytest.mark.parametrize(
    "size", [160 * MIB + 5, pytest.param(5 * 1024 * MIB + 5, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)


@dataclass
class Served:
    process: GatewayProcess
    http: httpx.Client
    system: str
    folder: str

    def url(self, what: str) -> str:
        return f"/filesystem/{self.system}/{what}"

    def remove(self, name: str) -> None:
        self.http.delete(self.url("ops/rm"), params={"path": f"{self.folder}/{name}"})

    def wait(self, answer: httpx.Response) -> None:
        """For the end of a transfer, which takes time by way of an object store alone."""
        job_id = answer.json()["transferJob"]["jobId"]
        deadline = time.monotonic() + 1800
        while True:
            (job,) = self.http.get(f"/compute/{self.system}/jobs/{job_id}").json()["jobs"]
            if job["status"]["state"] not in ("PENDING", "RUNNING"):
                assert job["status"]["state"] == "COMPLETED", job
                return
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @property
    def peak(self) -> int:
        """Bytes that the gateway's process has had at most."""
        assert self.process.process is not None
        status = Path(f"/proc/{self.process.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    home = tmp_path / "home"
    port = free_ports(1)[0]
    if request.param == "ssh":
        cluster: Cluster = request.getfixturevalue("cluster")
        config = tmp_path / "gateway.toml"
        config.write_text(tomlkit.dumps({"systems": {"cluster": prepare(cluster, home)}}))
        process = GatewayProcess(home, port, "--config", str(config))
        process.start()
        client: tuple[str, str] | None = SlurmGateway(process.url, home).client_of("alice")
        system, folder = "cluster", "/scratch"
    else:
        arguments = []
        if request.param == "s3":
            server: S3Server = request.getfixturevalue("s3_server")
            config = tmp_path / "gateway.toml"
            config.write_text(tomlkit.dumps({"systems": {"local": {"s3": server.config}}}))
            arguments = ["--config", str(config)]
        process = GatewayProcess(home, port, *arguments)
        process.start()
        client, system, folder = None, "local", str(home / "files")
    with httpx.Client(base_url=process.url, auth=_Tokens(process, client), timeout=600, trust_env=False) as http:
        yield Served(process, http, system, folder)
    process.stop()


class _Tokens(httpx.Auth):
    """A token of the gateway for each minute: the full size takes longer than one lives."""

    def __init__(self, process: GatewayProcess, client: tuple[str, str] | None) -> None:
        self._process = process
        self._client = client
        self._token, self._until = "", 0.0

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        if time.monotonic() > self._until:
            self._token, self._until = self._process.token(self._client), time.monotonic() + 60
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def content(offset: int, length: int) -> Iterator[bytes]:
    """That part of a file of any size."""
    while length:
        start = offset % MIB
        piece = BLOCK[start : start + length]
        yield piece
        offset, length = offset + len(piece), length - len(piece)


def digest(chunks: Iterator[bytes]) -> str:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.hexdigest()


@pytest.mark.parametrize("served", ["local", "ssh", "s3"], indirect=True)
@sizes
def test_signed_urls(served: Served, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{served.folder}/large"
    body = {"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
    begun = served.http.post(served.url("transfer/upload"), json=body)
    directives = begun.json()["transferDirectives"]
    part = directives["maxPartSize"]

    def put(numbered: tuple[int, str]) -> str:
        number, url = numbered
        offset = number * part
        length = min(part, size - offset)
        headers = {"Content-Length": str(length)}
        answer = httpx.put(url, content=content(offset, length), headers=headers, timeout=600, trust_env=False)
        assert answer.status_code == 200, answer.text
        return f"<Part><PartNumber>{number + 1}</PartNumber><ETag>{answer.headers['ETag']}</ETag></Part>"

    with ThreadPoolExecutor(10) as pool:
        tags = "".join(pool.map(put, enumerate(directives["partsUploadUrls"])))
    done = f"<CompleteMultipartUpload>{tags}</CompleteMultipartUpload>"
    assert httpx.post(directives["completeUploadUrl"], content=done, timeout=600, trust_env=False).status_code == 200
    served.wait(begun)

    body = {"path": path, "transferDirectives": {"transferMethod": "s3"}}
    offered = served.http.post(served.url("transfer/download"), json=body)
    served.wait(offered)
    url = offered.json()["transferDirectives"]["downloadUrl"]
    sha256, half = hashlib.sha256(), size // 2
    for wanted in (f"bytes=0-{half - 1}", f"bytes={half}-"):  # cut, and resumed
        with httpx.stream("GET", url, headers={"Range": wanted}, timeout=600, trust_env=False) as answer:
            assert answer.status_code == 206
            for chunk in answer.iter_raw():
                sha256.update(chunk)
    assert sha256.hexdigest() == digest(content(0, size))
    served.remove("large")
    _check_memory(served, capsys, f"{size / MIB:.0f} MiB by signed URLs, {served.system}")


@pytest.mark.parametrize("served", ["local", "ssh"], indirect=True)
@sizes
def test_content_and_tar(served: Served, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{served.folder}/large"
    expected = digest(content(0, size))
    headers = {"Content-SHA256": expected, "Content-Length": str(size)}
    answer = served.http.put(
        served.url("ops/content"), params={"path": path}, content=content(0, size), headers=headers
    )
    assert answer.status_code == 204, answer.text
    with served.http.stream("GET", served.url("ops/content"), params={"path": path}) as down:
        assert digest(down.iter_raw()) == expected
    served.remove("large")

    tree = f"{served.folder}/tree"
    assert served.http.post(served.url("ops/mkdir"), json={"path": tree}).status_code == 201
    each = size // 4
    answer = served.http.put(served.url("ops/tar"), params={"path": tree}, content=_tar(each))
    assert answer.status_code == 204, answer.text
    with served.http.stream("GET", served.url("ops/tar"), params={"path": tree}) as down:
        reader = io.BufferedReader(_Raw(down.iter_raw()), MIB)
        found = {}
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    file = archive.extractfile(member)
                    assert file is not None
                    found[member.name.removeprefix("./")] = digest(iter(lambda: file.read(MIB), b""))  # noqa: B023
        for _ in iter(lambda: reader.read(MIB), b""):
            pass
    assert found == dict.fromkeys(map(str, range(4)), digest(content(0, each)))
    served.remove("tree")
    _check_memory(served, capsys, f"{size / MIB:.0f} MiB by content and tar, {served.system}")


def _check_memory(served: Served, capsys: pytest.CaptureFixture[str], what: str) -> None:
    with capsys.disabled():
        print(f"\n{what}: {served.peak / MIB:.0f} MiB at most")
    assert served.peak < BOUND


def _tar(size: int) -> Iterator[bytes]:
    for number in range(4):
        member = tarfile.TarInfo(str(number))
        member.size = size
        yield member.tobuf()
        yield from content(0, size)
        yield b"\0" * (-size % 512)
    yield b"\0" * 1024


class _Raw(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
