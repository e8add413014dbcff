"""What is left of secrets that are damaged, uploads that end halfway, and disks that are full."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from crestline.gateway.bootstrap_client import write_bootstrap_client
from crestline.gateway.config import load_config, read_secret_file
from crestline.gateway.hosts.base import Completed
from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.hosts.ssh.errors import refusal
from crestline.gateway.identity.keys import signing_key
from crestline.gateway.paths import PathGuard
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.gateway.systems import build_systems
from crestline.gateway.transfers import service
from crestline.model import ConfigError, TooLargeError
from harness.cluster import Cluster
from harness.command import Command
from harness.gateway import in_thread
from harness.ssh import ssh_host

READ: dict[str, Callable[[StateDirectory], object]] = {
    "private/transfer_key": StateDirectory.transfer_key,
    "private/identifier": StateDirectory.identifier,
    "private/signing_key.json": signing_key,
    "client.json": StateDirectory.read_first_client,
}
TRANSFER = "/filesystem/local/transfer"


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    home = StateDirectory(tmp_path / "home")
    home.create()
    write_bootstrap_client(home)
    for read in READ.values():
        read(home)
    return home


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("part", [0.0, 0.5, 0.9])
def test_a_secret_file_that_is_empty_or_cut_is_told(home: StateDirectory, name: str, part: float) -> None:
    file = home.path / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ConfigError, match="is damaged" if part else "is empty") as refused:
        READ[name](home)
    assert str(file) in str(refused.value)
    assert content.decode("latin-1")[:16] not in str(refused.value)


def test_such_a_file_keeps_the_gateway_from_starting_with_one_line(home: StateDirectory, tmp_path: Path) -> None:
    (home.private / "transfer_key").write_bytes(b"")
    line = Command(tmp_path).refused("serve", "--state-dir", home.path, "--port", "0", code=78)
    assert "transfer_key is empty" in line


def test_a_file_of_the_configuration_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_secret_file(tmp_path / "token", "openfga.token_file")


async def sweep(home: Path) -> None:
    """As a gateway on this state directory does it from time to time."""
    store = await Store.open(StateDirectory(home).database)
    try:
        for system in build_systems(
            load_config(state_dir=home), StateDirectory(home), store, lambda: "http://127.0.0.1"
        ):
            await system.transfers.sweep()
    finally:
        await store.close()


def start(http: httpx.Client, kind: str, path: Path, **directives: Any) -> dict[str, Any]:
    body = {"path": str(path), "transferDirectives": {"transferMethod": "s3", **directives}}
    answer = http.post(f"{TRANSFER}/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["transferDirectives"]
    return found


@pytest.mark.anyio
async def test_signed_uploads_that_were_never_begun_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    folder = home / "files"
    monkeypatch.setattr(service, "LIFETIME", -3600)
    with in_thread(home) as gateway, gateway.http() as http:
        (folder / "gone").mkdir()
        start(http, "upload", folder / "gone" / "x", fileSize=10)
        start(http, "upload", folder / "plain", fileSize=10)
        start(http, "upload", folder / "taken", fileSize=10)
    assert len(list(folder.glob(".crestline-*.part"))) == 2
    for each in (folder / "gone").iterdir():
        each.unlink()
    (folder / "gone").rmdir()
    (folder / "taken").mkdir()  # no file can have this name any more
    await sweep(home)
    assert list(folder.glob(".crestline-*.part")) == []


@pytest.mark.anyio
async def test_the_url_of_a_sparse_file_lives_a_week_at_most_and_its_record_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with in_thread(home) as gateway:
        with gateway.http() as http:
            sparse = home / "files" / "sparse"
            sparse.touch()
            os.truncate(sparse, 6 * 1024**4)
            url = start(http, "download", sparse)["downloadUrl"]
        expires = float(parse_qs(urlsplit(url).query)["expires"][0])
        assert 6 * 86400 < expires - time.time() <= 7 * 86400
        monkeypatch.setattr(service, "RETENTION", -60)
        await sweep(home)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(url, headers={"Range": "bytes=-4"})
        assert (answer.status_code, answer.content) == (206, bytes(4))


@pytest.mark.anyio
async def test_a_file_that_is_being_written_has_no_name(tmp_path: Path) -> None:
    """So nothing stays of it when the gateway is killed."""
    seen: list[list[str]] = []

    async def content() -> AsyncIterator[bytes]:
        for _ in range(3):
            seen.append(os.listdir(tmp_path))
            yield bytes(1024 * 1024)

    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    await files.write(f"{tmp_path}/file", content())
    assert seen == [[], [], []]
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").stat().st_size == 3 * 1024 * 1024


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_called_a_full_disk(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def content(some: bytes = b"content") -> AsyncIterator[bytes]:
        yield some

    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    (tmp_path / "there").write_text("there")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("member")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))

    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", full)
    for attempt in (
        files.write(f"{tmp_path}/new", content()),
        files.uploads.append(f"{tmp_path}/new", "1", 0, content()),
        files.untar(str(tmp_path), content(buffer.getvalue())),
        files.copy(f"{tmp_path}/there", f"{tmp_path}/copy"),
        files.compress(f"{tmp_path}/there", f"{tmp_path}/packed", "gzip", pattern=None, dereference=False),
    ):
        with pytest.raises(TooLargeError, match=os.strerror(number)) as refused:
            await attempt
        assert "The disk of the system is full" in str(refused.value)
    assert sorted(each for each in os.listdir(tmp_path) if not each.endswith(".part")) == ["there"]


@pytest.mark.anyio
async def test_a_full_disk_behind_ssh_is_called_a_full_disk(cluster: Cluster) -> None:
    """SFTP says "Failure" of a full disk; the small file system of the container's shared memory is one."""

    async def more_than_there_is() -> AsyncIterator[bytes]:
        for _ in range(room // len(block) + 2):
            yield block

    block = bytes(1024 * 1024)
    name = f"full-{time.monotonic_ns()}"
    cluster.check("alice", ["mkdir", f"/dev/shm/{name}"])
    cluster.check("alice", ["ln", "-s", f"/dev/shm/{name}", f"/scratch/{name}"])
    free = cluster.check("alice", ["stat", "--file-system", "--format=%a %S", "/dev/shm"]).split()
    room = int(free[0]) * int(free[1])
    assert room < 1024**3, "the container's /dev/shm is too large for this test"
    try:
        async with ssh_host(cluster) as host:
            files = host.files("alice")
            for attempt in (
                files.write(f"/scratch/{name}/new", more_than_there_is()),
                files.uploads.append(f"/scratch/{name}/new", "1", 0, more_than_there_is()),
            ):
                with pytest.raises(TooLargeError, match="No space left on device") as refused:
                    await attempt
                assert "The disk of the system is full" in str(refused.value)
                assert f"{name}/new" in str(refused.value)
            await files.uploads.discard(f"/scratch/{name}/new", "1")
            assert await files.list(f"/scratch/{name}/", hidden=True) == []
    finally:
        cluster.check("alice", ["rm", "-r", f"/dev/shm/{name}"])


def test_full_disks_and_quotas_of_commands_behind_ssh() -> None:
    for reason in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)):
        error = refusal("cp", Completed(1, b"", f"cp: error writing '/scratch/x': {reason}\n".encode()))
        assert isinstance(error, TooLargeError)
        assert "/scratch/x" in error.message
        assert "Make room there" in error.hint
