"""Uploads in parts that are never completed: written down, kept for a while, dropped."""

from __future__ import annotations

import os
import socket
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tomli_w

from crestline.gateway.config import load_config
from crestline.gateway.hosts.local import LocalHost, content
from crestline.gateway.hosts.local.beneath import Directory
from crestline.gateway.paths import PathGuard
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.gateway.systems import build_systems
from crestline.gateway.transfers import unfinished
from harness.cluster import Cluster
from harness.gateway import GatewayProcess, RunningGateway, in_thread, place_home
from harness.ports import free_port
from harness.slurm_gateway import SlurmGateway, prepare
from harness.waiting import until_blocking


def put(gateway: RunningGateway, path: Path, upload_id: str, offset: int, content: bytes, complete: str) -> int:
    headers = {"Upload-Id": upload_id, "Upload-Offset": str(offset), "Upload-Complete": complete}
    with gateway.http() as http:
        answer = http.put("/filesystem/local/ops/content", params={"path": str(path)}, content=content, headers=headers)
        return answer.status_code


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".crestline-*"))


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


@pytest.mark.anyio
async def test_after_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    folder = home / "files"
    with in_thread(home) as gateway:
        assert put(gateway, folder / "whole", "1", 0, b"all", "?1") == 204
        assert put(gateway, folder / "part", "2", 0, b"some", "?0") == 204
        assert put(gateway, folder / "part", "2", 4, b" more", "?0") == 204
        (folder / "gone").mkdir()
        assert put(gateway, folder / "gone" / "part", "3", 0, b"some", "?0") == 204
    await sweep(home)
    assert len(parts(folder)) == 1
    for each in parts(folder / "gone"):
        each.unlink()
    (folder / "gone").rmdir()
    monkeypatch.setattr(unfinished, "ABANDONED", -10)
    await sweep(home)
    assert parts(folder) == []
    assert (folder / "whole").read_bytes() == b"all"
    with in_thread(home) as gateway:
        assert put(gateway, folder / "part", "2", 9, b"end", "?1") == 409  # it begins anew
        assert put(gateway, folder / "part", "2", 0, b"again", "?1") == 204
    assert (folder / "part").read_bytes() == b"again"


def test_over_ssh(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"/scratch/abandoned-{time.monotonic_ns()}"
    cluster.check("alice", ["mkdir", name])
    home = tmp_path / "home"
    system = prepare(cluster, home)
    options = {"params": {"path": f"{name}/file"}, "headers": {"Upload-Id": "1", "Upload-Complete": "?0"}}
    with in_thread(home, systems={"cluster": system}) as gateway:
        alice = SlurmGateway(gateway.url, home).client_of("alice")
        with gateway.http(alice) as http:
            assert http.put("/filesystem/cluster/ops/content", content=b"some", **options).status_code == 204
    assert cluster.check("alice", ["ls", "-A", name]).startswith(".crestline-")
    monkeypatch.setattr(unfinished, "ABANDONED", -10)
    with in_thread(home, systems={"cluster": system}):  # sweeps as it starts
        until_blocking(lambda: not cluster.check("alice", ["ls", "-A", name]))


def test_temporary_files_of_a_killed_gateway_over_ssh(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is written at once, of an archive that is packed, and of one that is unpacked."""
    name = f"/scratch/killed-{time.monotonic_ns()}"
    cluster.check("alice", ["mkdir", "-p", f"{name}/large", f"{name}/tar"])
    cluster.check("alice", ["truncate", "--size=200G", f"{name}/large/sparse"])
    home = tmp_path / "home"
    place_home(home)
    system = prepare(cluster, home)
    config = tmp_path / "gateway.toml"
    config.write_text(tomli_w.dumps({"systems": {"cluster": system}}))
    gateway = GatewayProcess(home, free_port(), "--config", str(config))
    gateway.start()
    alice = SlurmGateway(gateway.url, home).client_of("alice")
    with ExitStack() as stack:
        stack.callback(cluster.check, "alice", ["rm", "-rf", name])
        stack.callback(gateway.kill)
        token = gateway.token(alice)
        for end in ("content", "tar"):
            stack.enter_context(stopped_body(gateway, f"/filesystem/cluster/ops/{end}?path={name}/{end}", token))
        with gateway.http(alice) as http:
            body = {"path": f"{name}/large", "targetPath": f"{name}/packed.tar"}
            assert http.post("/filesystem/cluster/transfer/compress", json=body).status_code == 201
        until_blocking(lambda: len(left_behind(cluster, name)) >= 3)
        gateway.kill()
        assert len(left_behind(cluster, name)) == 3
        monkeypatch.setattr(unfinished, "ABANDONED", -10)
        with in_thread(home, systems={"cluster": system}):
            until_blocking(lambda: not left_behind(cluster, name))


@pytest.mark.anyio
async def test_a_temporary_file_in_use_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is in use; one of another gateway that still works is touched by that one."""
    monkeypatch.setattr(unfinished, "ABANDONED", -10)
    folder = tmp_path / "served"
    folder.mkdir()
    used, left = folder / ".crestline-1.part", folder / ".crestline-2.part"
    home = StateDirectory(tmp_path / "home")
    home.create()
    store = await Store.open(home.database)
    try:
        uploads = unfinished.UnfinishedUploads(store.engine, "local")
        host = LocalHost("local", PathGuard("local", [str(folder)]), temporary_files=uploads)
        for each in (used, left):
            each.mkdir()
            await uploads.begin("alice", str(each))
        await uploads.end("alice", str(left), is_gone=False)
        await uploads.sweep(host.files)
        assert [used.exists(), left.exists()] == [True, False]
        await uploads.end("alice", str(used), is_gone=True)
        await uploads.sweep(host.files)
        assert used.exists()  # nothing is known of it any more
    finally:
        await store.close()


@contextmanager
def stopped_body(gateway: RunningGateway, target: str, token: str) -> Iterator[None]:
    """A request whose body begins and does not go on."""
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head.encode() + tarfile.TarInfo("member").tobuf()[:100])
        yield


def left_behind(cluster: Cluster, name: str) -> list[str]:
    return cluster.check("alice", ["find", name, "-name", ".crestline-*"]).split()


@pytest.mark.anyio
@pytest.mark.parametrize("call", ["copy a tree", "copy", "compress", "extract", "untar", "write"])
async def test_what_an_operation_leaves_where_files_need_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """On a file system without O_TMPFILE, such as NFS, a gateway that is killed halfway."""
    folder = tmp_path / "served"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "file").write_bytes(bytes(1000))
    (folder / "into").mkdir()
    with tarfile.open(folder / "archive", "w") as packed:
        packed.add(folder / "tree", "tree")
    store = await Store.open(tmp_path / "store.db")
    monkeypatch.setattr(content, "_NAMELESS", 0)

    class KilledError(BaseException):
        """As a kill: nothing is cleaned up."""

    def kill(descriptor: int, *_: object) -> int:
        raise KilledError

    def machine() -> LocalHost:
        guard = PathGuard("here", [str(folder)])
        return LocalHost("here", guard, temporary_files=unfinished.UnfinishedUploads(store.engine, "here"))

    async def arriving() -> AsyncIterator[bytes]:
        yield (folder / "archive").read_bytes()

    files = machine().files("alice")
    attempts: dict[str, Callable[[], Awaitable[None]]] = {
        "copy a tree": lambda: files.copy(f"{folder}/tree", f"{folder}/into"),
        "copy": lambda: files.copy(f"{folder}/archive", f"{folder}/copy"),
        "compress": lambda: files.compress(
            f"{folder}/tree", f"{folder}/packed", "gzip", pattern=None, dereference=False
        ),
        "extract": lambda: files.extract(f"{folder}/archive", f"{folder}/into", "none"),
        "untar": lambda: files.untar(f"{folder}/into", arriving()),
        "write": lambda: files.write(f"{folder}/new", arriving()),
    }
    with monkeypatch.context() as killed:
        killed.setattr(os, "pwrite", kill)
        killed.setattr(Directory, "unlink", lambda *_: None)
        killed.setattr(unfinished.UnfinishedUploads, "forget", never)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - also in a group
            await attempts[call]()
    try:
        assert len(list(folder.rglob("*.part"))) == 1
        (folder / "tree" / ".crestline-mine.part").touch()
        monkeypatch.setattr(unfinished, "ABANDONED", -10)
        again = machine()
        await again._temporary_files.sweep(again.files)  # type: ignore[attr-defined]
        assert [each.name for each in folder.rglob("*.part")] == [".crestline-mine.part"]
    finally:
        await store.close()


async def never(*_: object) -> None:
    """Forget nothing."""
