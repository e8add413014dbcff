"""Uploads in parts that nobody ends: written down, kept for a while, dropped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crestline.gateway.config import load_config
from crestline.gateway.home import Home
from crestline.gateway.store import Store
from crestline.gateway.systems import build_systems
from crestline.gateway.transfers import unfinished
from harness.cluster import Cluster
from harness.gateway import RunningGateway, in_thread
from harness.slurm_gateway import SlurmGateway, prepare


def put(gateway: RunningGateway, path: Path, upload_id: str, offset: int, content: bytes, complete: str) -> int:
    headers = {"Upload-Id": upload_id, "Upload-Offset": str(offset), "Upload-Complete": complete}
    with gateway.http() as http:
        answer = http.put("/filesystem/local/ops/content", params={"path": str(path)}, content=content, headers=headers)
        return answer.status_code


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".crestline-*"))


async def sweep(home: Path) -> None:
    """As a gateway on this home does it from time to time."""
    store = await Store.open(Home(home).database)
    try:
        for system in build_systems(load_config(home=home), Home(home), store, lambda: "http://127.0.0.1"):
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
        deadline = time.monotonic() + 60
        while cluster.check("alice", ["ls", "-A", name]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
