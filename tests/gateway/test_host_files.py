"""What every host's files do: this machine's, and the cluster's over SSH, with the same expectations."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import uuid
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from crestline.gateway.hosts import Files
from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.paths import PathGuard
from crestline.model import (
    ConflictError,
    CrestlineError,
    FileMissingError,
    InvalidRequestError,
    PermissionDeniedError,
    TooLargeError,
    TransferError,
)
from harness.ssh import ssh_host

pytestmark = pytest.mark.anyio

# Quotes, a semicolon, a command substitution, a newline, an option's dash, and a byte that is no UTF-8.
NASTY = "-n a'b\"c;`id`$(id)\n|&\udcff名.txt"


@dataclass
class Place:
    """A new directory on one of the hosts."""

    files: Files
    root: str

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    async def put(self, name: str, content: bytes = b"content") -> str:
        await self.files.write(self.path(name), chunks(content))
        return self.path(name)

    async def get(self, name: str) -> bytes:
        return b"".join([chunk async for chunk in self.files.read(self.path(name))])

    async def names(self, below: str = "", **options: bool) -> list[str]:
        return [each.name for each in await self.files.list(self.path(below) if below else self.root, **options)]


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture(scope="module", params=["local", "ssh"])
async def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    if request.param == "local":
        root = str(tmp_path_factory.mktemp("files"))
        host = LocalHost("here", PathGuard("here", [root]))
        await host.start()
        yield Place(host.files("alice"), root)
        await host.stop()
    else:
        async with ssh_host(request.getfixturevalue("cluster")) as remote:
            yield Place(remote.files("alice"), "/scratch")


@pytest.fixture
async def place(base: Place) -> Place:
    root = base.path(f"test-{uuid.uuid4().hex}")
    await base.files.make_directory(root)
    return Place(base.files, root)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def crc32(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


async def test_a_nasty_name_goes_through_everything(place: Place) -> None:
    path = await place.put(NASTY, b"\0\xff")
    assert await place.get(NASTY) == b"\0\xff"
    shown = "-n a'b\"c;`id`$(id)\n|&\N{REPLACEMENT CHARACTER}名.txt"
    assert await place.names() == [shown]
    assert (await place.files.stat(path)).size == 2
    assert (await place.files.checksum(path)).checksum == sha256(b"\0\xff")
    assert (await place.files.chmod(path, "600")).permissions == "rw-------"
    assert await place.files.file_type(path)
    await place.files.copy(path, place.path("copy"))
    await place.files.move(path, place.path(NASTY + "2"))
    link = await place.files.symlink(place.path(NASTY + "2"), place.path("-link"))
    assert link.type == "l"
    assert (link.link_target or "").endswith(shown + "2")
    stream = b"".join([chunk async for chunk in place.files.tar(place.root)])
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape") as tar:
        assert NASTY + "2" in tar.getnames()
    assert await place.files.changed(place.root, {NASTY + "2": sha256(b"\0\xff"), "copy": "0" * 64}) == ["copy"]
    await place.files.remove(place.path(NASTY + "2"))
    assert await place.names() == ["-link", "copy"]


async def test_list_shows_what_ls_shows(place: Place) -> None:
    await place.put("b", b"12345")
    await place.put(".hidden")
    await place.files.make_directory(place.path("dir/.sub/deep"), parents=True)
    await place.put("dir/inner")
    await place.files.symlink(place.path("dir"), place.path("link"))
    assert await place.names() == ["b", "dir", "link"]
    assert await place.names(hidden=True) == [".hidden", "b", "dir", "link"]
    assert await place.names(recursive=True) == ["b", "dir", "link", "dir/inner"]
    assert await place.names(recursive=True, hidden=True) == [
        ".hidden",
        "b",
        "dir",
        "link",
        "dir/.sub",
        "dir/inner",
        "dir/.sub/deep",
    ]
    entries = {each.name: each for each in await place.files.list(place.root)}
    plain = entries["b"]
    assert (plain.type, plain.size, plain.permissions) == ("-", "5", "rw-r--r--")
    assert plain.user
    assert not plain.user.isdigit()
    assert len(plain.last_modified) == len("2026-01-01T00:00:00")
    assert (entries["link"].type, entries["link"].link_target) == ("l", place.path("dir"))
    numeric = {each.name: each for each in await place.files.list(place.root, numeric=True)}
    assert numeric["b"].user.isdigit()
    followed = {each.name: each for each in await place.files.list(place.root, dereference=True)}
    assert (followed["link"].type, followed["link"].link_target) == ("d", None)
    assert await place.names("link") == [place.path("link")]
    assert await place.names("link/") == ["inner"]
    assert await place.names("b") == [place.path("b")]
    assert await place.names(".hidden") == [place.path(".hidden")]
    assert (await place.files.entry(place.path("b"))).name == place.path("b")
    assert await place.names("dir/.sub") == ["deep"]


async def test_a_link_in_a_circle_does_not_break_a_list(place: Place) -> None:
    await place.files.make_directory(place.path("dir"))
    await place.files.symlink(place.root, place.path("dir/up"))
    assert await place.names(recursive=True) == ["dir", "dir/up"]
    assert (await place.names(recursive=True, dereference=True))[0] == "dir"


async def test_what_is_absent_is_worded_as_clients_expect(place: Place) -> None:
    absent = place.path("absent")
    calls = [
        place.files.list(absent),
        place.files.entry(absent),
        place.files.stat(absent),
        place.files.open(absent),
        place.files.checksum(absent),
        place.files.chmod(absent, "644"),
        place.files.remove(absent),
        place.files.copy(absent, place.path("x")),
        place.files.move(absent, place.path("x")),
        place.files.make_directory(f"{absent}/x"),
        place.files.write(f"{absent}/x", chunks(b"")),
        place.files.compress(absent, place.path("x.tar"), "none", pattern=None, dereference=False),
        place.files.extract(absent, place.root, "none"),
        place.files.untar(absent, chunks(b"")),
        place.files.uploads.piece(place.path("x"), "id", 0, 1, chunks(b"1")),
        place.files.uploads.finish(place.path("x"), "id"),
    ]
    for call in calls:
        with pytest.raises(FileMissingError, match="No such file or directory"):
            await call
    for members in (None, ["absent"]):
        with pytest.raises(FileMissingError, match="No such file or directory"):
            _ = [chunk async for chunk in place.files.tar(absent if members is None else place.root, members)]
    assert await place.names(hidden=True) == []


async def test_what_does_not_fit_is_the_clients_mistake(place: Place) -> None:
    file = await place.put("file")
    directory = (await place.files.make_directory(place.path("dir"))).name
    with pytest.raises(InvalidRequestError, match="File exists"):
        await place.files.make_directory(directory)
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        await place.files.open(directory)
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        await place.files.write(directory, chunks(b""))
    with pytest.raises(InvalidRequestError, match="Not a directory"):
        await place.files.make_directory(f"{file}/x")
    with pytest.raises(InvalidRequestError, match="invalid mode"):
        await place.files.chmod(file, "u+s; id")
    with pytest.raises(InvalidRequestError, match="invalid user"):
        await place.files.chown(file, "nobody-of-that-name", "")
    with pytest.raises(InvalidRequestError, match="into itself"):
        await place.files.copy(directory, f"{directory}/x")
    with pytest.raises(InvalidRequestError, match="does not match any of the defined filesystem paths"):
        await place.files.list("/etc")
    with pytest.raises(InvalidRequestError, match="not below"):
        await place.files.changed(place.root, {"../x": "0" * 64})
    with pytest.raises(PermissionDeniedError, match="refusing to remove"):
        await place.files.remove(os.path.dirname(place.root))


async def test_a_pipe_is_refused_without_delaying_others(place: Place, cluster_or_none: object) -> None:
    if cluster_or_none is None:
        os.mkfifo(place.path("pipe"))
    else:
        cluster_or_none.check("alice", ["mkfifo", place.path("pipe")])  # type: ignore[attr-defined]
    with pytest.raises(InvalidRequestError, match="Not a regular file"):
        await place.files.open(place.path("pipe"))
    with pytest.raises(InvalidRequestError, match="Not a regular file"):
        await place.files.write(place.path("pipe"), chunks(b"x"))


@pytest.fixture
def cluster_or_none(base: Place, request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue("cluster") if base.root == "/scratch" else None


async def test_reading_parts_of_a_file_that_is_replaced_meanwhile(place: Place) -> None:
    content = os.urandom(5_000_000)
    path = await place.put("file", content)
    file = await place.files.open(path)
    try:
        await place.put("file", b"other")
        assert file.size == len(content)
        for offset, length in ((0, None), (4_999_999, None), (1_000_000, 3), (0, 0), (4_999_990, 100), (6_000_000, 5)):
            end = None if length is None else offset + length
            assert b"".join([chunk async for chunk in file.chunks(offset, length)]) == content[offset:end]
    finally:
        await file.close()
    again = await place.files.open(path)
    await again.close()
    assert again.size == 5
    assert again.etag != file.etag
    assert '"' not in again.etag
    third = await place.files.open(path)
    await third.close()
    assert third.etag == again.etag


async def test_write_is_whole_or_not_at_all(place: Place) -> None:
    path = await place.put("file", b"old")
    await place.files.chmod(path, "640")
    await place.files.write(path, chunks(b"ne", b"", b"w"), checksum=sha256(b"new").upper())
    assert await place.get("file") == b"new"
    assert (await place.files.entry(path)).permissions == "rw-r-----"
    with pytest.raises(TransferError):
        await place.files.write(path, chunks(b"broken"), checksum=sha256(b"new"))

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the client is gone")

    with pytest.raises(RuntimeError):
        await place.files.write(path, breaks_off())
    assert await place.get("file") == b"new"
    assert await place.names(hidden=True) == ["file"]
    await place.files.chmod(path, "440")
    if os.getuid() != 0 or place.root.startswith("/scratch"):
        with pytest.raises(PermissionDeniedError):
            await place.files.write(path, chunks(b"x"))
    target = await place.files.symlink(path, place.path("link"))
    assert target.type == "l"
    await place.files.chmod(path, "640")
    await place.files.write(place.path("link"), chunks(b"through"))
    assert await place.get("file") == b"through"
    assert (await place.files.entry(place.path("link"))).type == "l"


async def test_the_sum_of_what_did_not_pass_in_order(place: Place) -> None:
    """As after a restart of the gateway: it is read again."""
    path, content = place.path("file"), b"0123456789" * 200_000
    await place.files.uploads.reserve(path, "u1", len(content))
    for offset in (1_000_000, 0):
        await place.files.uploads.piece(path, "u1", offset, 1_000_000, chunks(content[offset : offset + 1_000_000]))
    with pytest.raises(TransferError, match="CRC-32 is"):
        await place.files.uploads.finish(path, "u1", crc32(b"another"))
    await place.files.uploads.reserve(path, "u2", len(content))
    for offset in (1_000_000, 0):
        await place.files.uploads.piece(path, "u2", offset, 1_000_000, chunks(content[offset : offset + 1_000_000]))
    await place.files.uploads.finish(path, "u2", crc32(content))
    assert await place.get("file") == content


async def test_an_upload_goes_on_where_it_stands(place: Place) -> None:
    path = place.path("file")

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"01234"
        raise RuntimeError("the client is gone")

    assert await place.files.uploads.offset(path, "u1") == 0
    with pytest.raises(RuntimeError):
        await place.files.uploads.append(path, "u1", 0, breaks_off())
    stands = await place.files.uploads.offset(path, "u1")
    assert stands in (0, 5)
    with pytest.raises(ConflictError):
        await place.files.uploads.append(path, "u1", stands + 1, chunks(b"x"))
    assert await place.files.uploads.append(path, "u1", stands, chunks(b"0123456789"[stands:])) == 10
    assert await place.files.uploads.offset(path, "u2") == 0
    assert await place.names() == []
    await place.files.uploads.finish(path, "u1", sha256(b"0123456789"))
    assert await place.get("file") == b"0123456789"
    assert await place.names(hidden=True) == ["file"]
    await place.files.uploads.append(path, "u3", 0, chunks(b"wrong"))
    with pytest.raises(TransferError):
        await place.files.uploads.finish(path, "u3", sha256(b"right"))
    await place.files.uploads.append(path, "u3", 0, chunks(b"wrong"))
    with pytest.raises(TransferError, match="CRC-32 is"):
        await place.files.uploads.finish(path, "u3", crc32(b"right"))
    await place.files.uploads.append(path, "u3", 0, chunks(b"in two"))
    await place.files.uploads.append(path, "u3", 6, chunks(b" parts"))
    await place.files.uploads.finish(path, "u3", crc32(b"in two parts").upper())
    assert await place.get("file") == b"in two parts"
    await place.files.uploads.append(path, "u4", 0, chunks(b"dropped"))
    await place.files.uploads.discard(path, "u4")
    await place.files.uploads.discard(path, "u4")
    assert await place.names(hidden=True) == ["file"]
    assert await place.get("file") == b"in two parts"


async def test_pieces_come_in_any_order(place: Place) -> None:
    path = place.path("file")
    content = os.urandom(300_000)
    await place.files.uploads.reserve(path, "u", len(content))
    for offset in (200_000, 0, 100_000):
        piece = content[offset : offset + 100_000]
        mark = await place.files.uploads.piece(path, "u", offset, len(piece), chunks(piece[:7], piece[7:]))
        assert mark == hashlib.md5(piece).hexdigest()
    with pytest.raises(InvalidRequestError, match="Only 1 of the 2"):
        await place.files.uploads.piece(path, "u", 0, 2, chunks(content[:1]))
    with pytest.raises(InvalidRequestError, match="More than the 2"):
        await place.files.uploads.piece(path, "u", 0, 2, chunks(content[:3]))
    await place.files.uploads.finish(path, "u")
    assert await place.get("file") == content
    with pytest.raises(TooLargeError, match="No space left"):
        await place.files.uploads.reserve(path, "huge", 2**60)


async def test_trees_are_copied_moved_and_removed(place: Place) -> None:
    await place.files.make_directory(place.path("a/b"), parents=True)
    await place.put("a/b/file")
    await place.files.symlink(place.path("a/b/file"), place.path("a/link"))
    await place.files.copy(place.path("a"), place.path("c"))
    assert await place.names("c", recursive=True) == ["b", "link", "b/file"]
    assert (await place.files.entry(place.path("c/link"))).type == "l"
    await place.files.copy(place.path("a"), place.path("d"), dereference=True)
    assert (await place.files.entry(place.path("d/link"))).type == "-"
    await place.files.move(place.path("c"), place.path("d"))
    assert await place.names("d") == ["b", "c", "link"]
    await place.files.remove(place.path("d"))
    await place.files.remove(place.path("a/link"))
    assert await place.names(recursive=True) == ["a", "a/b", "a/b/file"]
    assert (await place.files.make_directory(place.path("a/b"), parents=True)).type == "d"


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
async def test_archives_come_back_as_they_were(place: Place, compression: str) -> None:
    await place.files.make_directory(place.path("a/b"), parents=True)
    await place.put("a/b/one.txt", b"1")
    await place.put("a/two.dat", b"2")
    archive, target = place.path("a/x.tar"), (await place.files.make_directory(place.path("out"))).name
    for _ in range(2):  # the second one does not swallow the first
        await place.files.compress(place.path("a"), archive, compression, pattern=None, dereference=False)  # type: ignore[arg-type]
    await place.files.extract(archive, target, compression)  # type: ignore[arg-type]
    assert await place.names("out", recursive=True) == ["a", "a/b", "a/two.dat", "a/b/one.txt"]
    assert await place.get("out/a/b/one.txt") == b"1"
    await place.files.remove(target)
    await place.files.make_directory(target)
    await place.files.compress(place.path("a"), archive, compression, pattern=r".*\.txt", dereference=False)  # type: ignore[arg-type]
    await place.files.extract(archive, target, compression)  # type: ignore[arg-type]
    assert await place.names("out", recursive=True) == ["a", "a/b", "a/b/one.txt"]
    assert not [each for each in await place.names(hidden=True, recursive=True) if ".part" in each]


@pytest.mark.parametrize("gzip", [False, True])
async def test_tar_streams_carry_a_directory(place: Place, gzip: bool) -> None:
    await place.files.make_directory(place.path("src/dir"), parents=True)
    await place.put("src/dir/file", b"1")
    await place.put("src/.dot", b"2")
    await place.files.chmod(place.path("src/dir/file"), "750")
    stream = [chunk async for chunk in place.files.tar(place.path("src"), gzip=gzip)]
    assert b"".join(stream).startswith(b"\x1f\x8b") is gzip
    target = (await place.files.make_directory(place.path("dst/dir"), parents=True)).name.removesuffix("/dir")
    await place.put("dst/dir/file", b"old")
    await place.put("dst/dir/other", b"kept")
    before = (await place.files.entry(target)).permissions
    await place.files.untar(target, chunks(*stream))
    assert await place.names("dst", hidden=True, recursive=True) == [".dot", "dir", "dir/file", "dir/other"]
    assert await place.get("dst/dir/file") == b"1"
    assert await place.get("dst/dir/other") == b"kept"
    assert (await place.files.entry(f"{target}/dir/file")).permissions == "rwxr-x---"
    assert (await place.files.entry(target)).permissions == before
    some = [chunk async for chunk in place.files.tar(place.path("src"), ["dir/file"])]
    with tarfile.open(fileobj=io.BytesIO(b"".join(some))) as tar:
        assert tar.getnames() == ["dir/file"]


def made(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


async def test_a_tar_stream_cannot_leave_its_directory(place: Place) -> None:
    await place.files.make_directory(place.path("in"))
    outside = tarfile.TarInfo("link")
    outside.type, outside.linkname = tarfile.SYMTYPE, "../../outside"
    hostile = [
        made([(tarfile.TarInfo("../escaped"), b"x")]),
        made([(outside, b""), (tarfile.TarInfo("link/x"), b"x")]),
        made([(tarfile.TarInfo("file"), b"x" * 3000)])[:2000],
        b"this is no archive" * 100,
    ]
    for stream in hostile:
        with pytest.raises(InvalidRequestError):
            await place.files.untar(place.path("in"), chunks(stream))
    assert await place.names() == ["in"]
    assert "escaped" not in await place.names(hidden=True, recursive=True)
    assert not [each for each in await place.names("in", hidden=True) if each.endswith(".part")]

    async def breaks_off() -> AsyncIterator[bytes]:
        yield made([(tarfile.TarInfo("file"), b"x" * 3000)])[:2000]
        raise RuntimeError("the client is gone")

    with contextlib.suppress(RuntimeError, CrestlineError):
        await place.files.untar(place.path("in"), breaks_off())
    assert await place.names("in") in ([], ["file"])
    assert "file" not in await place.names("in")


async def test_many_files_are_compared_at_once(place: Place) -> None:
    await place.files.make_directory(place.path("in"))
    stream = made(
        (tarfile.TarInfo(f"a-rather-long-name-{number:06}" + "x" * 80), str(number).encode()) for number in range(3000)
    )
    await place.files.untar(place.path("in"), chunks(stream))
    given = {f"a-rather-long-name-{number:06}" + "x" * 80: sha256(str(number).encode()) for number in range(3001)}
    given["a-rather-long-name-000007" + "x" * 80] = "0" * 64
    changed = await place.files.changed(place.path("in"), given)
    assert [name.rstrip("x")[-6:] for name in changed] == ["000007", "003000"]
    assert len(await place.names("in")) == 3000


def test_the_names_used_here_are_really_bytes() -> None:
    assert os.fsencode(NASTY).count(b"\xff") == 1
    assert Path(NASTY).name == NASTY
