"""200 MiB through unmodified pyfirecrest, with its 5 s per call, and without memory for the file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import firecrest
import pytest
from firecrest.v2 import AsyncFirecrest, Firecrest

from harness.gateway import GatewayProcess

MIB = 1024 * 1024
SIZE = 200 * MIB + 12345


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = GatewayProcess(tmp_path_factory.mktemp("large") / "home", port)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("source") / "large file"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, SIZE, MIB):
            block = os.urandom(min(MIB, SIZE - start))
            digest.update(block)
            file.write(block)
    return path, digest.hexdigest()


def peak_memory(process: GatewayProcess) -> int:
    """Bytes that the gateway's process had at most."""
    assert process.process is not None
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def authorization(served: GatewayProcess) -> firecrest.ClientCredentialsAuth:
    client_id, secret = served.client
    return firecrest.ClientCredentialsAuth(client_id, secret, served.token_url)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_up_and_down(served: GatewayProcess, source: tuple[Path, str], tmp_path: Path, kind: str) -> None:
    path, digest = source
    directory = str(served.home / "files")
    before = peak_memory(served)
    if kind == "sync":
        client = Firecrest(served.url, authorization=authorization(served))
        client.upload("local", path, directory, kind)
        client.download("local", f"{directory}/{kind}", tmp_path / "back")
    else:

        async def both() -> None:
            client = AsyncFirecrest(served.url, authorization=authorization(served))
            await client.upload("local", path, directory, kind)
            await client.download("local", f"{directory}/{kind}", tmp_path / "back")
            await client.close_session()

        asyncio.run(both())
    assert digest_of(Path(directory) / kind) == digest
    assert digest_of(tmp_path / "back") == digest
    assert peak_memory(served) - before < 64 * MIB
