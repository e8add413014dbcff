"""Transfers across a restart of the gateway, killed or not."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.gateway.config import load_config
from crestline.gateway.identity import Principal
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.gateway.systems import SystemRuntime, build_systems
from crestline.gateway.transfers import service
from crestline.gateway.transfers.signed_urls import SignedRequest
from harness.gateway import GatewayProcess
from harness.waiting import until_blocking

TRANSFER = "/filesystem/local/transfer"
JOBS = "/compute/local/jobs"
MIB = 1024 * 1024
CALLER = Principal(username="somebody", client_id="test")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[GatewayProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = GatewayProcess(tmp_path / "home", port)
    process.start()
    yield process
    process.stop()


def state_of(http: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    found = http.get(f"{JOBS}/{answer.json()['transferJob']['jobId']}")
    return dict(found.json()["jobs"][0]["status"])


def completion(tags: list[str]) -> str:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in enumerate(tags, start=1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"


def test_after_a_kill(process: GatewayProcess) -> None:
    files = process.home / "files"
    content = os.urandom(33 * MIB)
    with (files / "large").open("wb") as file:
        file.truncate(10**12)
    with process.http() as http:
        directives = {"transferMethod": "s3", "fileSize": len(content)}
        upload = http.post(f"{TRANSFER}/upload", json={"path": f"{files}/file", "transferDirectives": directives})
        urls = upload.json()["transferDirectives"]["partsUploadUrls"]
        tags = [httpx.put(urls[0], content=content[: 16 * MIB], timeout=60).headers["ETag"]]
        copy = http.post(f"{TRANSFER}/cp", json={"path": f"{files}/large", "targetPath": f"{files}/copy"})
        until_blocking(lambda: state_of(http, copy)["state"] == "RUNNING")
    process.kill()
    process.start()
    with process.http() as http:
        status = state_of(http, copy)
        assert status["state"] == "FAILED"
        assert "restarted" in status["stateReason"]
        log = http.get("/filesystem/local/ops/view", params={"path": copy.json()["transferJob"]["logs"]["outputLog"]})
        assert "restarted" in log.json()["output"]
        assert not (files / "copy").exists()
        assert state_of(http, upload)["state"] == "RUNNING"
        for number in (1, 2):
            part = content[number * 16 * MIB : (number + 1) * 16 * MIB]
            tags.append(httpx.put(urls[number], content=part, timeout=60).headers["ETag"])
        answer = httpx.post(upload.json()["transferDirectives"]["completeUploadUrl"], content=completion(tags))
        assert answer.status_code == 200, answer.text
        assert (files / "file").read_bytes() == content
        assert state_of(http, upload)["state"] == "COMPLETED"


@asynccontextmanager
async def system(home: Path, *, start: bool = True) -> AsyncIterator[SystemRuntime]:
    """A system whose transfers are at work."""
    config = load_config(state_dir=home)
    place = StateDirectory(config.state_dir)
    place.create()
    store = await Store.open(place.database)
    runtime = build_systems(config, place, store, lambda: "http://gateway").get("local")
    if start:
        await runtime.transfers.start()
    try:
        yield runtime
    finally:
        await runtime.transfers.stop()
        await store.close()


async def job_state(runtime: SystemRuntime, job_id: str) -> tuple[str, str | None]:
    job = await runtime.transfers.job(CALLER, job_id)
    assert job is not None
    return job.status.state, job.status.state_reason


async def whole(content: bytes) -> bytes:
    return content


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.anyio
async def test_a_stopped_gateway_ends_its_operations(tmp_path: Path) -> None:
    files = tmp_path / "home" / "files"
    async with system(tmp_path / "home") as runtime:
        with (files / "large").open("wb") as file:
            file.truncate(10**12)
        answer = await runtime.transfers.run(
            CALLER, "cp", f"{files}/copy", lambda each: each.copy(f"{files}/large", f"{files}/copy")
        )
        job_id = answer.transfer_job.job_id
    async with system(tmp_path / "home") as runtime:
        assert await job_state(runtime, job_id) == ("FAILED", "The gateway was stopped.")
    assert sorted(name for name in os.listdir(files) if "large" not in name) == sorted(
        {CALLER.username, *os.listdir(files)} - {"large"}
    )
    assert not [name for name in os.listdir(files) if name.startswith(".crestline-") or name == "copy"]


def signed(transfer_id: str, url: httpx.URL) -> SignedRequest:
    """What the gateway reads from a request to a signed URL."""
    return SignedRequest(transfer_id, url.params["expires"], url.params["signature"])


async def allow(caller: Principal) -> None:
    """As where nothing about the user has changed."""
    assert caller.username == CALLER.username


@pytest.mark.anyio
@pytest.mark.parametrize("renamed", [False, True])
async def test_a_kill_around_the_rename(tmp_path: Path, renamed: bool) -> None:
    """The gateway dies after it wrote down that an upload completes, before or after the rename."""
    target = tmp_path / "home" / "files" / "file"
    async with system(tmp_path / "home") as runtime:
        begun = await runtime.transfers.upload(CALLER, str(target), 3)
        job_id = begun.transfer_job.job_id
        url = httpx.URL((begun.transfer_directives.parts_upload_urls or [""])[0])
        await runtime.transfers.urls.put_part(signed(job_id, url), 1, 3, one(b"abc"), allow)
        records = runtime.transfers._records
        assert await records.transition(job_id, ("RUNNING",), "COMPLETING")
        if renamed:
            await runtime.files(CALLER).uploads.finish(str(target), job_id)
    async with system(tmp_path / "home") as runtime:
        state, _ = await job_state(runtime, job_id)
        assert state == ("COMPLETED" if renamed else "RUNNING")
        etag = '"900150983cd24fb0d6963f7d28e17f72"'
        url = httpx.URL(begun.transfer_directives.complete_upload_url or "")
        await runtime.transfers.urls.complete(signed(job_id, url), lambda: whole(completion([etag]).encode()), allow)
        assert target.read_bytes() == b"abc"


@pytest.mark.anyio
async def test_incomplete_uploads_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "home" / "files"
    async with system(tmp_path / "home") as runtime:
        fresh = (await runtime.transfers.upload(CALLER, f"{files}/fresh", 1)).transfer_job.job_id
        monkeypatch.setattr(service, "LIFETIME", -10)
        begun = await runtime.transfers.upload(CALLER, f"{files}/stale", 1)
        url = httpx.URL((begun.transfer_directives.parts_upload_urls or [""])[0])
        with pytest.raises(service.CrestlineError, match="expired") as caught:
            await runtime.transfers.urls.put_part(signed(begun.transfer_job.job_id, url), 1, 1, one(b"x"), allow)
        assert caught.value.status == 403
        assert len([name for name in os.listdir(files) if name.startswith(".crestline-")]) == 2
        await runtime.transfers.sweep()
        state, reason = await job_state(runtime, begun.transfer_job.job_id)
        assert (state, reason) == ("FAILED", "The upload was not completed in time.")
        assert len([name for name in os.listdir(files) if name.startswith(".crestline-")]) == 1
        assert (await job_state(runtime, fresh))[0] == "RUNNING"


@pytest.mark.anyio
async def test_ended_transfers_are_forgotten_with_their_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "home" / "files"
    async with system(tmp_path / "home") as runtime:
        (files / "file").write_text("x")
        with monkeypatch.context() as expired:
            expired.setattr(service, "LIFETIME", -10)
            ended = (await runtime.transfers.download(CALLER, f"{files}/file")).transfer_job
        running = (await runtime.transfers.upload(CALLER, f"{files}/new", 1)).transfer_job
        assert Path(ended.logs.output_log).exists()
        await runtime.transfers.sweep()
        assert await runtime.transfers.job(CALLER, ended.job_id) is not None
        monkeypatch.setattr(service, "RETENTION", -10)
        await runtime.transfers.sweep()
        assert await runtime.transfers.job(CALLER, ended.job_id) is None
        assert not Path(ended.logs.output_log).exists()
        assert not Path(ended.logs.error_log).exists()
        assert (await job_state(runtime, running.job_id))[0] == "RUNNING"


def test_part_sizes() -> None:
    from crestline.gateway.transfers.parts import count, extent, part_size

    for size in (1, 16 * MIB, 17 * MIB, 200 * MIB, 10**9, 10**11, 10**12, 5 * 1024**4):
        part = part_size(size)
        assert part % MIB == 0
        assert 1 <= count(size, part) <= 10_000
        assert sum(extent(size, part, number)[1] for number in range(1, count(size, part) + 1)) == size
    assert count(200 * MIB, part_size(200 * MIB)) == 10
