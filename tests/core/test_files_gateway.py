"""Files to and from a Crestline gateway: atomic, resumable, directories as one tar stream."""

from __future__ import annotations

import os
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from crestline.client.connection import Connection
from crestline.client.files import download, download_tree, upload, upload_file, upload_tree
from crestline.client.files.local import IncrementalChecksum, PartFile
from crestline.model import ConflictError, File, FileMissingError, GatewayUnavailableError, TransferError
from harness.backends import gateway_connection
from harness.cutting import Relay, relay_to
from harness.gateway import RunningGateway
from harness.nginx import nginx
from harness.ports import free_port
from harness.trees import make_tree, tree_of

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
async def relay(gateway: RunningGateway) -> AsyncIterator[Relay]:
    with relay_to(gateway.url) as relay:
        yield relay


@pytest.fixture
async def connection(gateway: RunningGateway, relay: Relay) -> AsyncIterator[Connection]:
    async with gateway_connection(gateway, relay.url) as connection:
        yield connection


@pytest.fixture
async def remote(connection: Connection, tmp_path: Path) -> Path:
    place = Path(await connection.backend.system.default_workdir()) / tmp_path.name
    place.mkdir(parents=True)
    return place


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 20 * MIB])
async def test_every_size_arrives_both_ways(connection: Connection, remote: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "in").write_bytes(content(size))
    told: list[tuple[int, int, str]] = []
    sent = await upload(connection.files, tmp_path / "in", f"{remote}/f", progress=lambda *news: told.append(news))
    assert (remote / "f").read_bytes() == content(size)
    got = await download(connection.files, f"{remote}/f", tmp_path / "out", progress=lambda *news: told.append(news))
    assert (tmp_path / "out").read_bytes() == content(size)
    assert (sent.bytes, got.bytes) == (size, size)
    if size:
        assert told[-1] == (size, size, "out")
    assert os.listdir(remote) == ["f"]
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


async def test_a_large_file_that_is_there_does_not_travel(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(2 * MIB))
    await upload(connection.files, tmp_path / "f", f"{remote}/")
    before = relay.up + relay.down
    assert (await upload(connection.files, tmp_path / "f", f"{remote}/")).unchanged == 1
    assert (await download(connection.files, f"{remote}/f", tmp_path)).unchanged == 1
    assert relay.up + relay.down - before < 100_000


async def test_a_directory_and_then_only_its_changes(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    source, back = tmp_path / "tree", tmp_path / "back"
    make_tree(source, odd_names=True, files=50)
    (source / "big").write_bytes(content(3 * MIB))
    first = await upload(connection.files, source, f"{remote}/new/copy")
    assert tree_of(remote / "new/copy") == tree_of(source)
    assert first.unchanged == 0

    before = relay.up
    again = await upload(connection.files, source, f"{remote}/new/copy/")
    assert (again.files, again.unchanged, again.bytes) == (0, first.files, 0)
    assert relay.up - before < 100_000

    (remote / "new/copy/sub/b.txt").write_text("BETA")  # the same size
    (remote / "new/copy/sub/tool").chmod(0o644)
    (remote / "new/copy/link").unlink()
    report = await upload(connection.files, source, f"{remote}/new/copy")
    assert report.files == 2
    assert tree_of(remote / "new/copy") == tree_of(source)

    fetched = await download(connection.files, f"{remote}/new/copy", back)
    assert fetched.files == first.files
    assert tree_of(back) == tree_of(source)
    (remote / "new/copy/sub/b.txt").write_text("GAMMA")
    before = relay.down
    changed = await download(connection.files, f"{remote}/new/copy", back)
    assert (changed.files, changed.unchanged, changed.bytes) == (1, first.files - 1, 5)
    assert relay.down - before < 200_000
    assert tree_of(back) == tree_of(remote / "new/copy")


async def test_links_that_lead_out(connection: Connection, remote: Path, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "up").symlink_to("../elsewhere")
    (source / "data").symlink_to(remote)
    (source / "ok").symlink_to("nowhere")
    report = await upload(connection.files, source, f"{remote}/copy")
    assert os.readlink(remote / "copy/data") == str(remote)
    assert os.readlink(remote / "copy/ok") == "nowhere"
    assert report.excluded == ("up",)  # the gateway makes no link whose end it does not know
    (source / "data").unlink()
    (source / "data").symlink_to(remote / "copy")
    await upload(connection.files, source, f"{remote}/copy")
    assert os.readlink(remote / "copy/data") == str(remote / "copy")

    (remote / "copy/up").symlink_to("../elsewhere")
    report = await download(connection.files, f"{remote}/copy", tmp_path / "back")
    assert report.excluded == ("up",)
    assert {name: os.readlink(tmp_path / "back" / name) for name in os.listdir(tmp_path / "back")} == {
        "data": ".",  # absolute there, and in the directory
        "ok": "nowhere",
    }


async def test_absolute_links_in_a_directory_become_relative(
    connection: Connection, remote: Path, tmp_path: Path
) -> None:
    """Those of a directory that is sent, and those that a job made in one that comes."""
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content")
    (source / "sub" / "link").symlink_to(source / "file")
    (source / "sub" / "circle").symlink_to("circle")
    assert (await upload(connection.files, source, f"{remote}/copy")).excluded == ()
    assert (remote / "copy/sub/link").read_text() == "content"
    (remote / "copy/sub/job").symlink_to(remote / "copy/file")
    report = await download(connection.files, f"{remote}/copy", tmp_path / "back")
    assert report.excluded == ()
    assert {path.name: os.readlink(path) for path in (tmp_path / "back/sub").iterdir()} == {
        "link": "../file",
        "job": "../file",
        "circle": "circle",
    }


async def test_links_that_lead_out_together(connection: Connection, remote: Path, tmp_path: Path) -> None:
    (remote / "tree/a/b").mkdir(parents=True)
    (remote / "tree/a/b/top").symlink_to("../..")
    (remote / "tree/out").symlink_to("a/b/top/../secret")
    report = await download(connection.files, f"{remote}/tree", tmp_path / "back")
    assert report.excluded == ("out",)
    assert os.readlink(tmp_path / "back/a/b/top") == "../.."
    assert not os.path.lexists(tmp_path / "back/out")


async def test_nothing_is_written_through_a_link(connection: Connection, remote: Path, tmp_path: Path) -> None:
    (remote / "tree/sub").mkdir(parents=True)
    (remote / "tree/sub/f").write_text("x")
    (tmp_path / "precious").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target/sub").symlink_to(tmp_path / "precious")
    with pytest.raises(Exception, match="nothing is written through it"):
        await download(connection.files, f"{remote}/tree", tmp_path / "target")
    assert os.listdir(tmp_path / "precious") == []


async def test_a_cut_upload_goes_on_where_it_stood(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 20 * MIB
    monkeypatch.setattr(upload_file, "PART", 4 * MIB)
    (tmp_path / "f").write_bytes(content(size))
    (remote / "f").write_text("old")
    seen: list[bytes] = []
    relay.cuts_up += [9 * MIB, 6 * MIB]
    before = relay.up
    told: list[tuple[int, int, str]] = []

    def progress(*news: tuple[int, int, str]) -> None:
        told.append(news)
        seen.append((remote / "f").read_bytes())

    await upload(connection.files, tmp_path / "f", f"{remote}/f", progress=progress)
    assert not relay.cuts_up
    assert relay.up - before < size + 5 * MIB
    assert (remote / "f").read_bytes() == content(size)
    assert told[-1] == (size, size, "f")
    assert set(seen) <= {b"old", content(size)}  # never half of it


async def test_a_later_call_goes_on_with_an_upload(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 20 * MIB
    monkeypatch.setattr(upload_file, "PART", 4 * MIB)
    (tmp_path / "f").write_bytes(content(size))
    relay.cuts_up += [18 * MIB, *[100] * 50]
    with pytest.raises(GatewayUnavailableError):
        await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert not (remote / "f").exists()
    relay.cuts_up.clear()
    before = relay.up
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert relay.up - before < 3.5 * MIB  # what was lacking, and what was under way
    assert (remote / "f").read_bytes() == content(size)
    assert os.listdir(remote) == ["f"]


async def test_a_proxy_that_takes_only_small_requests(
    gateway: RunningGateway, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 30 * MIB
    monkeypatch.setattr(upload_file, "PART", 4 * MIB)
    (tmp_path / "f").write_bytes(content(size))
    (tmp_path / "nginx").mkdir()
    port = free_port()
    server = f"""
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 6m;
        location / {{ proxy_pass {gateway.url}; proxy_request_buffering off; }}
    }}"""
    with nginx(tmp_path / "nginx", server, port) as log:
        async with gateway_connection(gateway, f"http://127.0.0.1:{port}") as connection:
            await upload(connection.files, tmp_path / "f", f"{remote}/f")
    answers = [line.split('"')[2].split()[0] for line in log.read_text().splitlines() if '"PUT ' in line]
    assert (remote / "f").read_bytes() == content(size)
    assert answers == ["204", "413"] + ["204"] * 7


async def test_parts_grow_where_they_take_little_time(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 30 * MIB
    monkeypatch.setattr(upload_file, "PART", 2 * MIB)
    (tmp_path / "f").write_bytes(content(size))
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(size)
    lengths = [int(length) // MIB for length in re.findall(rb"(?i)content-length: (\d{7,})", relay.heard)]
    assert lengths == [2, 4, 8, 14, 2]  # the last one small, as its checksum comes before it


async def test_another_content_does_not_go_on_with_it(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(4 * MIB))
    relay.cuts_up += [2 * MIB, *[100] * 50]
    with pytest.raises(GatewayUnavailableError):
        await upload(connection.files, tmp_path / "f", f"{remote}/f")
    relay.cuts_up.clear()
    (tmp_path / "f").write_bytes(content(4 * MIB)[::-1])
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_bytes() == content(4 * MIB)[::-1]


async def test_a_damaged_upload_is_found_by_the_server(
    connection: Connection, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(content(MIB))
    damaged = iter([True])
    honest = upload_file.read_chunks

    async def damaging(path: Path, start: int, end: int, total: IncrementalChecksum) -> AsyncIterator[bytes]:
        async for chunk in honest(path, start, end, total):
            yield bytes(len(chunk)) if next(damaged, False) else chunk

    monkeypatch.setattr(upload_file, "read_chunks", damaging)
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert next(damaged, None) is None
    assert (remote / "f").read_bytes() == content(MIB)


async def test_a_cut_download_goes_on_where_it_stood(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    size = 20 * MIB
    (remote / "f").write_bytes(content(size))
    (tmp_path / "f").write_text("old")
    relay.cuts_down += [9 * MIB, 6 * MIB]
    before = relay.down
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert not relay.cuts_down
    assert relay.down - before < size + MIB
    assert (tmp_path / "f").read_bytes() == content(size)


@pytest.mark.usefixtures("brief_pauses")
async def test_a_later_call_goes_on_with_a_download(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    size = 20 * MIB
    (remote / "f").write_bytes(content(size))
    (tmp_path / "f").write_text("old")
    relay.cuts_down += [18 * MIB, *[100] * 50]
    with pytest.raises(GatewayUnavailableError):
        await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "old"
    relay.cuts_down.clear()
    before = relay.down
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert relay.down - before < 3.5 * MIB
    assert (tmp_path / "f").read_bytes() == content(size)
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.usefixtures("brief_pauses")
async def test_a_part_of_another_version_is_not_used(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    (remote / "f").write_bytes(content(4 * MIB))
    relay.cuts_down += [2 * MIB, *[100] * 50]
    with pytest.raises(GatewayUnavailableError):
        await download(connection.files, f"{remote}/f", tmp_path / "f")
    relay.cuts_down.clear()
    status = (remote / "f").stat()
    (remote / "f").write_bytes(content(4 * MIB)[::-1])
    os.utime(remote / "f", (status.st_atime, status.st_mtime))  # even if size and time say that it is the same
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == content(4 * MIB)[::-1]


async def test_a_cut_directory_sends_and_fetches_only_what_lacks(
    connection: Connection, relay: Relay, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    for number in range(40):
        (source / f"{number:02d}").write_bytes(content(100_000 + number))
    relay.cuts_up += [3 * MIB]
    before = relay.up
    await upload(connection.files, source, f"{remote}/tree")
    assert not relay.cuts_up
    assert relay.up - before < 5.5 * MIB  # of 3.9 MiB twice
    assert tree_of(remote / "tree") == tree_of(source)

    relay.cuts_down += [3 * MIB]
    before = relay.down
    report = await download(connection.files, f"{remote}/tree", tmp_path / "back")
    assert not relay.cuts_down
    assert relay.down - before < 5.5 * MIB
    assert tree_of(tmp_path / "back") == tree_of(source)
    assert report.files == 40


async def test_large_files_of_a_directory_go_by_themselves(
    connection: Connection, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_tree, "ALONE", MIB)
    monkeypatch.setattr(download_tree, "ALONE", MIB)
    make_tree(tmp_path / "tree")
    (tmp_path / "tree/sub/large").write_bytes(content(3 * MIB))
    (tmp_path / "tree/sub/large").chmod(0o755)
    await upload(connection.files, tmp_path / "tree", f"{remote}/tree")
    await download(connection.files, f"{remote}/tree", tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(remote / "tree") == tree_of(tmp_path / "tree")


def test_one_download_at_a_time(tmp_path: Path) -> None:
    def part() -> PartFile:
        return PartFile(tmp_path / "f", "0" * 64)

    with part(), pytest.raises(ConflictError, match="already"), part():
        pass
    assert os.listdir(tmp_path) == []
    with part() as first:
        first._write([b"x"])
        first.publish(executable=False)
    with part() as second:
        assert second.size == 0
    assert (tmp_path / "f").read_text() == "x"


async def test_what_a_killed_transfer_left_is_not_taken_along(
    connection: Connection, remote: Path, tmp_path: Path
) -> None:
    left = ".crestline-0123456789abcdef.tar.gz"
    for place in (tmp_path / "tree", remote / "other"):
        place.mkdir()
        (place / left).write_text("x")
        (place / "f").write_text("f")
    await upload(connection.files, tmp_path / "tree", f"{remote}/tree")
    assert os.listdir(remote / "tree") == ["f"]
    await download(connection.files, f"{remote}/other", tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["f"]


async def test_a_cancelled_download_of_a_directory_leaves_no_half_file(
    connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (remote / "tree").mkdir()
    for number in range(5):
        (remote / f"tree/{number}").write_bytes(content(3 * MIB))
    with anyio.CancelScope() as scope:

        def progress(done: int, total: int, name: str) -> None:
            if done > 7 * MIB:
                scope.cancel()

        await download(connection.files, f"{remote}/tree", tmp_path / "back", progress=progress)
    assert scope.cancelled_caught
    names = os.listdir(tmp_path / "back")
    assert len(names) < 5
    assert all((tmp_path / "back" / name).read_bytes() == content(3 * MIB) for name in names)


async def test_what_is_absent_is_an_error(connection: Connection, remote: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        await download(connection.files, f"{remote}/none", tmp_path / "f")
    (tmp_path / "f").write_text("x")
    with pytest.raises(FileMissingError):
        await upload(connection.files, tmp_path / "f", f"{remote}/none/f")


async def test_files_that_vanish_after_the_listing_keep_no_others_back(
    connection: Connection, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (remote / name).write_text(name)
    (remote / "huge").write_bytes(bytes(100))
    everything = connection.backend.files.list

    async def and_then_two_are_gone(path: str, **options: bool) -> list[File]:
        found = await everything(path, **options)
        return [
            *(msgspec.structs.replace(each, size=2**40) if each.name == "huge" else each for each in found),
            *(msgspec.structs.replace(found[0], name=name) for name in ("gone", "too")),
        ]

    monkeypatch.setattr(connection.backend.files, "list", and_then_two_are_gone)
    with pytest.raises(TransferError, match=r"2 entries of .*'gone', 'too'"):
        await download(connection.files, str(remote), tmp_path / "tree")
    assert sorted(os.listdir(tmp_path / "tree")) == ["a", "b", "c", "huge"]


async def test_a_local_name_that_no_message_carries_keeps_no_others_back(
    connection: Connection, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in (b"a", b"b", b"\xff"):
        (source / os.fsdecode(name)).write_bytes(name)
    with pytest.raises(TransferError, match="UTF-8"):
        await upload(connection.files, source, f"{remote}/tree")
    assert sorted(os.listdir(remote / "tree")) == ["a", "b"]


async def test_names_that_are_not_utf8_arrive_as_they_are(connection: Connection, remote: Path, tmp_path: Path) -> None:
    raw = [b"plain", b"caf\xe9", b"caf\xe8", b"d\xff/inner\xfe[x]", b"d\xff/plain", b"sub/\xfa*?"]
    names = [os.fsdecode(each) for each in raw]
    for name in names:
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_bytes(os.fsencode(name))
    told: list[str] = []
    await download(connection.files, str(remote), tmp_path / "out", progress=lambda *news: told.append(news[2]))
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == os.fsencode(name)
    found = [each for each in (tmp_path / "out").rglob("*") if each.is_file()]
    assert len(found) == len(names)
    for each in told:
        each.encode()  # a terminal can show it
