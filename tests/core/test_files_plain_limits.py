"""Files where plain FirecREST has its limits: empty, slow to check, large without S3, one bad among many."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crestline.client.connection import Connection
from crestline.client.files import download, upload
from crestline.model import (
    File,
    FileMissingError,
    InvalidRequestError,
    PermissionDeniedError,
    TransferError,
    UnsupportedError,
)
from crestline.testing.firecrest import PlainFirecrest, running

pytestmark = pytest.mark.anyio

LIMIT = 40_000
DIRECT = (LIMIT - 1) // 4 * 3
LARGE = 3 * LIMIT + 17
LARGER = 12 * LIMIT


@pytest.fixture(scope="module", params=["s3"])
def plain_server(request: pytest.FixtureRequest) -> Iterator[PlainFirecrest]:
    with running(max_ops_file_size=LIMIT, upload_poll=0.02, command_timeout=1, data_transfer=request.param) as plain:
        yield plain


no_s3 = pytest.mark.parametrize("plain_server", ["streamer", "wormhole", None], indirect=True)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def left(plain: PlainFirecrest) -> list[str]:
    return [str(path) for path in plain.settings.root.rglob("home/**/.crestline-*")]


# uploads whose answer never comes


async def test_an_empty_file_is_not_waited_for(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch(mode=0o755)
    (remote / "empty").write_text("old")
    await upload(connection.files, tmp_path / "empty", f"{remote}/empty")
    assert (remote / "empty").read_bytes() == b""
    assert os.access(remote / "empty", os.X_OK)
    assert 408 not in [seen.status for seen in plain.requests]


async def test_an_upload_of_nothing_is_sent_once(plain: PlainFirecrest, connection: Connection, remote: Path) -> None:
    await connection.backend.files.upload_small(str(remote), "empty", b"")
    assert (remote / "empty").read_bytes() == b""
    assert plain.count("POST", "/ops/upload") == 1


@pytest.mark.parametrize("how", [{"status": 408}, {"status": 500}, {"status": 502}, {"drop": True}])
async def test_an_upload_is_looked_for_before_it_is_repeated(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    (tmp_path / "f").write_bytes(content(100))
    if "drop" in how:
        plain.faults.drop("/ops/upload", when="after")
    else:
        plain.faults.fail(how["status"], "/ops/upload", when="after")
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(100)
    assert plain.count("POST", "/ops/upload") == 1


async def test_an_upload_that_was_not_done_is_repeated(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(100))
    (remote / "f").write_bytes(content(100)[::-1])
    plain.faults.fail(408, "/ops/upload")
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(100)
    assert plain.count("POST", "/ops/upload") == 2


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_directory_that_is_missing_is_named(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path, size: int
) -> None:
    (tmp_path / "f").write_bytes(content(size))
    with pytest.raises(FileMissingError):
        await upload(connection.files, tmp_path / "f", f"{remote}/none/f")
    assert len(plain.requests) < 6
    assert not plain.jobs()


async def test_a_directory_that_takes_no_file_is_an_error(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(100))
    (remote / "f").mkdir()
    with pytest.raises(TransferError, match="cannot be written"):
        await connection.backend.files.upload_small(str(remote), "f", content(100))
    assert plain.count("POST", "/ops/upload") == 3


# what takes too long


async def test_a_checksum_that_takes_too_long_is_asked_once_for_a_file_of_a_size(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    plain.faults.checksum_408_above = LIMIT
    (tmp_path / "f").write_bytes(content(LARGE))
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    await download(connection.files, f"{remote}/f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == content(LARGE)
    assert plain.count("GET", "/ops/checksum") == 1
    (tmp_path / "f").write_bytes(content(LARGE + 1))
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert plain.count("GET", "/ops/checksum") == 2


async def test_a_listing_of_all_levels_that_takes_too_long_is_asked_once(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (remote / "a" / "b").mkdir(parents=True)
    (remote / "a" / "b" / "f").write_text("f")
    plain.faults.fail(408, "/ops/ls", query="recursive=(true|True|1)", count=None)
    await download(connection.files, str(remote), tmp_path / "tree")
    assert (tmp_path / "tree/a/b/f").read_text() == "f"
    assert sum(seen.status == 408 for seen in plain.requests) == 1


# without S3


@no_s3
async def test_large_files_travel_in_pieces(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(content(LARGE))
    source.chmod(0o755)
    told: list[tuple[int, int, str]] = []
    await upload(connection.files, source, f"{remote}/f", progress=lambda *news: told.append(news))
    assert (remote / "f").read_bytes() == content(LARGE)
    assert os.access(remote / "f", os.X_OK)
    assert told[-1][:2] == (LARGE, LARGE)
    assert plain.count("POST", "/ops/upload") == 4
    told.clear()
    await download(connection.files, f"{remote}/f", target, progress=lambda *news: told.append(news))
    assert target.read_bytes() == content(LARGE)
    assert told[-1][:2] == (LARGE, LARGE)
    assert plain.count("GET", "/ops/download") == -(-LARGE // DIRECT)
    assert not [seen for seen in plain.requests if "/transfer/" in seen.path]
    assert len(plain.jobs()) == 2
    assert {job.partition for job in plain.jobs()} == {"xfer"}  # as the site wants its transfer jobs
    assert not left(plain)
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@no_s3
async def test_pieces_that_are_there_do_not_travel_again(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(content(LARGER))
    plain.faults.fail(403, "/ops/upload", skip=6, count=None)
    with pytest.raises(PermissionDeniedError):
        await upload(connection.files, tmp_path / "in", f"{remote}/f")
    plain.faults.reset()
    plain.requests.clear()
    await upload(connection.files, tmp_path / "in", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(LARGER)
    # Six pieces arrived; up to three more were under way and are cut off when the first is refused.
    assert plain.count("POST", "/ops/upload") <= 12 - 6 + 3

    plain.faults.fail(403, "/ops/download", skip=8, count=None)
    with pytest.raises(PermissionDeniedError):
        await download(connection.files, f"{remote}/f", tmp_path / "out")
    plain.faults.reset()
    plain.requests.clear()
    await download(connection.files, f"{remote}/f", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content(LARGER)
    assert plain.count("GET", "/ops/download") < -(-LARGER // DIRECT)
    assert not left(plain)


@no_s3
async def test_a_damaged_piece_is_found(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(content(LARGE))
    (remote / "f").write_text("old")
    plain.faults.fail(204, "/ops/upload")  # confirmed, and not done
    await upload(connection.files, tmp_path / "in", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(LARGE)
    assert not [path for path in left(plain) if not path.endswith(".log")]  # the failed job's, which the error names


@no_s3
async def test_transfers_in_pieces_that_are_left_to_their_jobs(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(content(LARGE))
    for step in range(2):
        sent = await upload(connection.files, tmp_path / "in", f"{remote}/f", wait=False)
        assert len(sent.temporary) == 1 - step
        for job_id in sent.pending:
            await connection.monitor.wait(job_id)
    assert (sent.files, sent.unchanged, sent.pending) == (0, 1, ())
    for step in range(2):
        got = await download(connection.files, f"{remote}/f", tmp_path / "out", wait=False)
        assert len(got.temporary) == 1 - step
        for job_id in got.pending:
            await connection.monitor.wait(job_id)
    assert (got.files, got.pending) == (1, ())
    assert (tmp_path / "out").read_bytes() == content(LARGE)


@no_s3
async def test_what_needs_s3_says_what_the_site_offers(plain: PlainFirecrest, connection: Connection) -> None:
    for begin in (
        connection.backend.transfers.download("/home/f"),
        connection.backend.transfers.upload("/home/f", LARGE),
    ):
        with pytest.raises(UnsupportedError, match=plain.settings.data_transfer or "nothing"):
            await begin
    assert not [seen for seen in plain.requests if "/transfer/" in seen.path]


@no_s3
async def test_a_site_that_wants_an_account(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (remote / "f").write_bytes(content(LARGE))
    connection.backend.transfer_directives = ("#SBATCH --account={account}",)
    with pytest.raises(InvalidRequestError, match="needs an account"):
        await download(connection.files, f"{remote}/f", tmp_path / "f")
    connection.backend.account = "proj1"
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == content(LARGE)


# one bad file


async def test_one_file_that_cannot_come_keeps_no_other_back(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    for number in range(4):
        (remote / f"f{number}").write_text(str(number))
    plain.faults.fail(403, "/ops/download", query="f1$", count=None)
    with pytest.raises(TransferError, match=r"'f1' of .* all else did"):
        await download(connection.files, str(remote), tmp_path / "tree")
    assert sorted(os.listdir(tmp_path / "tree")) == ["f0", "f2", "f3"]


@pytest.mark.parametrize("in_a_job", [False, True])
async def test_an_archive_without_one_of_its_files_is_good_for_the_others(
    plain: PlainFirecrest,
    connection: Connection,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_a_job: bool,
) -> None:
    for number in range(30):
        (remote / f"f{number}").write_text(str(number))
    everything = connection.backend.files.list

    async def with_another(path: str, **options: bool) -> list[File]:
        found = await everything(path, **options)
        return [*found, msgspec.structs.replace(found[0], name="secret")]

    monkeypatch.setattr(connection.backend.files, "list", with_another)
    said = "Remote process failed with exit status:2 and error message:tar: secret: Cannot open: Permission denied"
    if in_a_job:
        plain.faults.fail(408, "/ops/compress")
        plain.faults.fail(404, "/ops/tail", body=json.dumps({"message": "No such file or directory"}))
    else:
        plain.faults.fail(403, "/ops/compress", when="after", body=json.dumps({"message": said}))
    with pytest.raises(TransferError, match=r"'secret' of .* all else did"):
        await download(connection.files, str(remote), tmp_path / "tree")
    assert len(os.listdir(tmp_path / "tree")) == 30


async def test_a_job_that_lists_what_it_packed_has_packed_it(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    for number in range(60):
        (remote / f"f{number}").write_text(str(number))
    plain.faults.fail(408, "/ops/compress")
    await connection.files.finish(
        await connection.backend.files.compress(
            str(remote), f"{plain.home}/{remote.name}.tar.gz", pattern=f"\\./{remote.name}/.*"
        )
    )
    assert (plain.home / f"{remote.name}.tar.gz").exists()


async def test_a_directory_that_cannot_be_packed_is_an_error(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    for number in range(30):
        (remote / f"f{number}").write_text(str(number))
    plain.faults.fail(403, "/ops/compress")
    with pytest.raises(PermissionDeniedError):
        await download(connection.files, str(remote), tmp_path / "tree")


async def test_of_a_pattern_too(plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path) -> None:
    for name in "abc":
        (remote / name).write_text(name)
    plain.faults.fail(403, "/ops/download", query="a$", count=None)
    with pytest.raises(TransferError, match="a' of"):
        await download(connection.files, f"{remote}/*", tmp_path / "here")
    assert sorted(os.listdir(tmp_path / "here")) == ["b", "c"]


# what is there already


@pytest.mark.parametrize("name", ["plain", "sp ace", "b&g 20.bin", "it's"])
async def test_a_file_of_the_same_size_is_not_taken_for_the_same(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path, name: str
) -> None:
    old, new = content(2**20), content(2**20)[::-1]
    (tmp_path / name).write_bytes(new)
    (remote / name).write_bytes(old)
    await upload(connection.files, tmp_path / name, f"{remote}/{name}")
    assert (remote / name).read_bytes() == new
    (tmp_path / "here").write_bytes(old)
    await download(connection.files, f"{remote}/{name}", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == new


async def test_without_a_checksum_the_newer_file_of_the_same_size_travels(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    plain.faults.checksum_408_above = LIMIT
    old, new = content(2**20), content(2**20)[::-1]
    (remote / "f").write_bytes(new)
    (tmp_path / "f").write_bytes(old)
    os.utime(tmp_path / "f", (1, 1))
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == new
    (tmp_path / "f").write_bytes(old)
    os.utime(remote / "f", (1, 1))
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_bytes() == old
    os.utime(tmp_path / "f", (1, 1))
    assert (await upload(connection.files, tmp_path / "f", f"{remote}/f")).unchanged == 1
