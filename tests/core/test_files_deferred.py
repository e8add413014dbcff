"""Directories to and from plain FirecREST whose packing and unpacking is left to jobs, call by call."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crestline.client.connection import Connection
from crestline.client.files import TransferReport, download, signed_urls, upload
from crestline.client.files.tree import MANIFEST
from crestline.model import TransferError
from crestline.testing.firecrest import PlainFirecrest, running
from harness.trees import tree_of

pytestmark = pytest.mark.anyio

LIMIT = 40_000
"""of one operation, in bytes"""


@pytest.fixture(scope="module")
def plain_server() -> Iterator[PlainFirecrest]:
    with running(max_ops_file_size=LIMIT, upload_poll=0.02) as plain:
        yield plain


@pytest.fixture
def plain(plain_server: PlainFirecrest) -> Iterator[PlainFirecrest]:
    """Packing and unpacking takes longer than a request may."""
    plain_server.requests.clear()
    for verb in ("compress", "extract"):
        plain_server.faults.fail(408, path=f"/ops/{verb}", count=None)
    yield plain_server
    plain_server.faults.reset()


@contextmanager
def full_cluster(plain: PlainFirecrest) -> Iterator[None]:
    """Transfer jobs wait in the queue."""
    slots, plain.settings.transfer_slots = plain.settings.transfer_slots, 0
    try:
        yield
    finally:
        plain.settings.transfer_slots = slots


def fill(root: Path, size: int = 10_000) -> None:
    """A tree of more files than would travel one by one, which no archive makes small."""
    (root / "deep").mkdir(parents=True)
    for number in range(12):
        (root / "deep" / f"{number}.bin").write_bytes(random.Random(number).randbytes(size))
    (root / "deep/run").write_text("#!/bin/sh\n")
    (root / "deep/run").chmod(0o755)
    (root / "link").symlink_to("deep/run")


def left_over(*places: Path) -> list[str]:
    """What a transfer has put there for its time."""
    names = [name for place in places for name in os.listdir(place)]
    return [name for name in names if name.startswith(".crestline-") and name != MANIFEST]


def jobs_begun(plain: PlainFirecrest) -> list[str]:
    found = [seen.path.rpartition("/")[2] for seen in plain.requests if "/transfer/" in seen.path]
    plain.requests.clear()
    return found


async def ended(connection: Connection, report: TransferReport) -> None:
    for job_id in report.pending:
        await connection.monitor.wait(job_id)


async def test_a_download_goes_on_where_it_stood(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(remote)
    here, target = tmp_path / "lost", tmp_path / "out"

    async def call(root: Path = target) -> TransferReport:
        return await download(connection.files, str(remote), root, wait=False, key="task")

    with full_cluster(plain):
        packing = await call(here)
        assert jobs_begun(plain) == ["compress"]
        assert (await call(here)).pending == packing.pending
        assert len(packing.pending) == 1
    await ended(connection, packing)
    with full_cluster(plain):  # on a machine that knows of nothing
        coming = await call()
        assert (await call()).pending == coming.pending
        assert jobs_begun(plain) == ["download"]
        assert coming.files == 0
        assert set(coming.temporary) == set(packing.temporary) == {str(path) for path in plain.home.glob(".crest*")}
    await ended(connection, coming)
    got = await call()
    assert (got.files, got.unchanged, got.pending, got.temporary) == (13, 0, (), ())
    assert jobs_begun(plain) == []
    assert tree_of(target) == tree_of(remote)
    assert left_over(plain.home, target, here) == []


async def test_an_upload_goes_on_where_it_stood(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in", remote / "tree"
    fill(source)

    async def call() -> TransferReport:
        return await upload(connection.files, source, str(target), wait=False)

    with full_cluster(plain):
        sent = await call()
        assert (sent.files, len(sent.pending)) == (13, 1)
        assert (await call()).pending == sent.pending
    await ended(connection, sent)
    with full_cluster(plain):
        unpacking = await call()
        assert jobs_begun(plain) == ["upload", "extract"]
        assert (await call()).pending == unpacking.pending != sent.pending
        assert {str(path) for path in target.glob(".crest*.*z")} < set(unpacking.temporary)
    await ended(connection, unpacking)
    done = await call()
    assert (done.files, done.unchanged, done.pending) == (0, 13, ())
    assert tree_of(target, without=(MANIFEST,)) == tree_of(source)
    assert left_over(target) == []
    assert (await upload(connection.files, source, str(target))).unchanged == 13
    assert jobs_begun(plain) == []


async def test_a_call_that_waits_completes_what_was_begun(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "in")
    await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    assert (await upload(connection.files, tmp_path / "in", f"{remote}/tree")).unchanged == 13
    assert jobs_begun(plain) == ["upload", "extract"]
    await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
    assert (await download(connection.files, f"{remote}/tree", tmp_path / "out")).files == 13
    assert jobs_begun(plain) == ["compress", "download"]
    assert tree_of(tmp_path / "out") == tree_of(tmp_path / "in")
    assert left_over(remote / "tree", plain.home, tmp_path / "out") == []


async def test_what_fits_into_a_request_waits_for_nothing(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    plain.faults.reset()
    fill(tmp_path / "in", size=100)
    sent = await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    got = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
    assert (sent.files, sent.pending, got.files, got.pending) == (13, (), 13, ())
    assert tree_of(tmp_path / "out") == tree_of(tmp_path / "in")
    assert left_over(remote / "tree", plain.home, tmp_path / "out") == []
    assert jobs_begun(plain) == []


async def test_an_archive_of_what_has_changed_since_is_not_used(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(remote / "tree")
    packed = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
    await ended(connection, packed)
    (remote / "tree/deep/0.bin").write_bytes(b"changed".ljust(10_000))
    os.utime(remote / "tree/deep/0.bin", (1, 1))
    again = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
    assert again.pending != packed.pending
    await download(connection.files, f"{remote}/tree", tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(remote / "tree")

    await ended(connection, await upload(connection.files, tmp_path / "out", f"{remote}/copy", wait=False))
    (tmp_path / "out/deep/1.bin").write_bytes(b"changed".ljust(10_000))
    await upload(connection.files, tmp_path / "out", f"{remote}/copy")
    assert tree_of(remote / "copy", without=(MANIFEST,)) == tree_of(tmp_path / "out")
    assert left_over(remote / "copy", plain.home, tmp_path / "out") == []


async def test_half_an_archive_is_never_taken_for_a_whole_one(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(remote / "tree")
    with full_cluster(plain):
        begun = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
        Path(begun.temporary[0]).write_bytes(b"\x1f\x8b half")
        plain.scheduler.end(begun.pending[0], "CANCELLED")
        again = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
        assert again.pending != begun.pending
    await ended(connection, again)
    archive = Path(again.temporary[0])
    archive.write_bytes(archive.read_bytes()[:-1000])
    with pytest.raises(TransferError, match="damaged"):
        await download(connection.files, f"{remote}/tree", tmp_path / "out")
    assert left_over(plain.home, tmp_path / "out") == []
    await download(connection.files, f"{remote}/tree", tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(remote / "tree")


async def test_a_job_that_failed_leaves_nothing(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "in")
    sent = await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    await ended(connection, sent)
    archive = Path(sent.temporary[0])
    archive.write_bytes(archive.read_bytes()[:-1000])
    unpacking = await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    await ended(connection, unpacking)
    with pytest.raises(TransferError, match="its log is empty"):
        await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    assert left_over(remote / "tree") == []
    await upload(connection.files, tmp_path / "in", f"{remote}/tree")
    assert tree_of(remote / "tree", without=(MANIFEST,)) == tree_of(tmp_path / "in")


async def test_an_archive_whose_sender_was_lost_is_given_up(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job would wait for it for a day."""
    fill(tmp_path / "in")
    sending = asyncio.Event()

    async def hang(*_: Any) -> None:
        sending.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(signed_urls, "put_parts", hang)
        lost = asyncio.create_task(upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False))
        await sending.wait()
    [job] = [job for job in plain.jobs() if not job.is_over]
    sent = await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    assert job.is_over
    await ended(connection, sent)
    await upload(connection.files, tmp_path / "in", f"{remote}/tree")
    assert tree_of(remote / "tree", without=(MANIFEST,)) == tree_of(tmp_path / "in")
    lost.cancel()
    await asyncio.wait({lost})


async def test_a_call_that_is_cut_off_leaves_no_job(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(remote / "tree")
    with full_cluster(plain):
        begun = await download(connection.files, f"{remote}/tree", tmp_path / "out", wait=False)
        waits, wait = asyncio.Event(), connection.monitor.wait

        async def watched(job_id: str) -> Any:
            waits.set()
            return await wait(job_id)

        monkeypatch.setattr(connection.monitor, "wait", watched)
        going_on = asyncio.create_task(download(connection.files, f"{remote}/tree", tmp_path / "out"))
        await waits.wait()
        going_on.cancel()
        await asyncio.wait({going_on})
    [job] = plain.jobs(begun.pending[0])
    assert job.state.startswith("CANCELLED")
    assert left_over(plain.home, tmp_path / "out") == []


async def test_two_that_fetch_the_same_at_once(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    fill(remote)
    roots = [tmp_path / "one", tmp_path / "two"]
    while any(reports := [await download(connection.files, str(remote), root, wait=False) for root in roots]):
        if not any(report.pending for report in reports):
            break
        assert not set(reports[0].temporary) & set(reports[1].temporary)
        for report in reports:
            await ended(connection, report)
    assert [tree_of(root) for root in roots] == [tree_of(remote)] * 2
    assert left_over(plain.home, *roots) == []


async def test_what_others_changed_meanwhile_is_not_taken_for_sent(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in", remote / "tree"
    fill(source)
    await upload(connection.files, source, str(target))
    (source / "deep/0.bin").write_bytes(b"new")
    with full_cluster(plain):
        begun = await upload(connection.files, source, str(target), wait=False)
        (target / "deep/1.bin").write_bytes(b"theirs".ljust(10_000))
    await ended(connection, begun)
    await upload(connection.files, source, str(target))
    assert tree_of(target, without=(MANIFEST,)) == tree_of(source)
