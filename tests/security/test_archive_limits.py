"""Archives that are small to send and large to unpack are refused before they take memory, threads or disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import tracemalloc
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from crestline.client.files.archive import unpack
from crestline.gateway.hosts import selections
from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.hosts.ssh import SshHost
from crestline.gateway.paths import PathGuard
from crestline.model import InvalidRequestError, TooLargeError, TransferError
from crestline.wire import tar
from crestline.wire.extensions import TarSelection
from crestline.wire.tar import ArchiveLimits, TarReader, _Member
from harness.cluster import Cluster
from harness.ssh import ssh_host

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
PACKERS: dict[str, Callable[[], object]] = {
    "gzip": lambda: zlib.compressobj(wbits=31),
    "bzip2": lambda: bz2.BZ2Compressor(),
    "xz": lambda: lzma.LZMACompressor(preset=0),
}


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def announced(kind: bytes, size: int) -> Iterator[bytes]:
    """A header whose own data has `size` bytes, then a file that it belongs to."""
    yield header("././@LongLink", size, kind)
    fill = b"%d comment=" % size if kind in (tarfile.XHDTYPE, tarfile.XGLTYPE) else b""
    yield fill + b"a" * (min(size, MIB) - len(fill))
    for _ in range(size // MIB - 1):
        yield b"a" * MIB
    yield header("file", 0)
    yield bytes(1024)


def packed(pieces: Iterator[bytes], how: str) -> bytes:
    packer = PACKERS[how]()
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])  # type: ignore[attr-defined]


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def refused(root: Path, content: bytes, how: str, match: str, limits: ArchiveLimits | None = None) -> int:
    """Peak of memory while it is refused, in each way that an archive comes."""
    files = LocalHost("here", PathGuard("here", [str(root)]), limits).files("alice")
    (root / "target").mkdir(exist_ok=True)
    archive = root / "archive"
    archive.write_bytes(content)
    peaks = []
    ways = [lambda: files.extract(str(archive), f"{root}/target", how)]  # type: ignore[arg-type]
    if how in ("gzip", "none"):
        ways.append(lambda: files.untar(f"{root}/target", once(content)))
    for way in ways:
        tracemalloc.start()
        with pytest.raises(TooLargeError, match=match):
            await way()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert list(root.rglob("*.part")) == []
        shutil.rmtree(root / "target")
        (root / "target").mkdir()
    return max(peaks)


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
async def test_a_header_that_announces_much(tmp_path: Path, kind: bytes, how: str) -> None:
    content = packed(announced(kind, 16 * MIB), how)
    assert len(content) < MIB
    assert await refused(tmp_path, content, how, "header of more than 64 KiB") < 8 * MIB


async def test_many_headers_before_one_member(tmp_path: Path) -> None:
    chain = b"".join(header("x", 0, tarfile.XHDTYPE) for _ in range(1000))
    await refused(tmp_path, chain + header("file", 0) + bytes(1024), "none", "header of more than 64 KiB")


async def test_digits_that_keep_the_parser_busy(tmp_path: Path) -> None:
    digits = b"1" * (60 * 1024)
    content = header("x", len(digits), tarfile.XHDTYPE) + digits + header("file", 0) + bytes(1024)
    await refused(tmp_path, content, "none", "number of more than 255 digits")


async def test_many_global_headers(tmp_path: Path) -> None:
    content = b""
    for number in range(100):
        record = b"20 comment%03d=%05d\n" % (number, number)
        content += header("g", len(record), tarfile.XGLTYPE) + record.ljust(512, b"\0") + header(f"f{number}", 0)
    await refused(tmp_path, content + bytes(1024), "none", "global headers")


@pytest.mark.parametrize("how", PACKERS)
async def test_a_ratio_that_is_too_high(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "ALLOWANCE", 8 * MIB)
    size = 16 * MIB

    def zeros() -> Iterator[bytes]:
        yield header("zeros", size)
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield bytes(1024)

    content = packed(zeros(), how)
    assert await refused(tmp_path, content, how, "200 bytes for each byte") < 8 * MIB
    assert os.listdir(tmp_path / "target") == []


async def test_a_hole_counts_as_what_it_becomes(tmp_path: Path) -> None:
    """A member of a few bytes that says that it is sparse, and 512 MiB long."""
    size = 512 * MIB
    records = b"".join(
        b"%d %s=%s\n" % (len(key) + len(value) + 5, key, value)
        for key, value in (
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"hole"),
            (b"GNU.sparse.realsize", b"%d" % size),
        )
    )
    body = b"1\n0\n1\n".ljust(512, b"\0") + b"x".ljust(512, b"\0")
    content = header("h", len(records), tarfile.XHDTYPE) + records.ljust(512, b"\0") + header("hole", len(body)) + body
    await refused(tmp_path, content + bytes(1024), "none", "200 bytes for each byte")


async def test_more_members_directories_and_bytes_than_allowed(tmp_path: Path) -> None:
    limits = ArchiveLimits(members=50, depth=20, bytes=1000)
    many = b"".join(header(f"f{number}", 0) for number in range(60))
    await refused(tmp_path, many + bytes(1024), "none", "more than 50 members", limits)
    deep = b"".join(header(f"{letter}/" * 15 + "f", 0) for letter in "abcd")  # each brings 15 directories
    await refused(tmp_path, deep + bytes(1024), "none", "more than 50 members", limits)
    deeper = header("d/" * 30 + "f", 0)
    await refused(tmp_path, deeper + bytes(1024), "none", "more than 20 directories", limits)
    large = header("large", 1001) + bytes(1536)
    await refused(tmp_path, large + bytes(1024), "none", "more than 1000 bytes", limits)


@pytest.fixture
async def remote(cluster: Cluster) -> AsyncIterator[tuple[SshHost, str]]:
    """A host behind SSH with small limits, and a new directory on it."""
    root = f"/scratch/limits-{uuid.uuid4().hex}"
    limits = ArchiveLimits(members=50, depth=20, ratio=10, bytes=200 * MIB)
    async with ssh_host(cluster, limits=limits) as host:
        await host.files("alice").make_directory(root)
        yield host, root


async def test_limits_hold_behind_ssh(remote: tuple[SshHost, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.gateway.hosts.ssh.archives.ALLOWANCE", 8 * MIB)
    host, root = remote
    files = host.files("alice")

    def zeros() -> Iterator[bytes]:
        yield header("zeros", 150 * MIB)
        for _ in range(150):
            yield bytes(MIB)

    many = b"".join(header(f"f{number}", 0) for number in range(60)) + bytes(1024)
    dirs = b"".join(header(f"{letter}/" * 15 + "f", 0) for letter in "abcd") + bytes(1024)
    deep = header("d/" * 30 + "f", 0) + bytes(1024)
    large = header("large", 300 * MIB) + bytes(MIB)
    for content, how, match in (
        (many, "none", "more than 50 members"),
        (dirs, "none", "more than 50 members"),
        (deep, "none", "more than 20 directories"),
        (large, "none", f"more than {200 * MIB} bytes"),
        (packed(zeros(), "gzip"), "gzip", "more than 10 bytes for each of its own"),
    ):
        await files.write(f"{root}/archive", once(content))
        with pytest.raises(TooLargeError, match=match):
            await files.extract(f"{root}/archive", root, how)  # type: ignore[arg-type]
        with pytest.raises(TooLargeError, match=match):
            await files.untar(root, once(content))
        assert [each.name for each in await files.list(root, hidden=True)] == ["archive"]


async def test_what_is_looked_through_behind_ssh_has_a_limit(remote: tuple[SshHost, str]) -> None:
    host, root = remote
    files = host.files("alice")
    for number in range(3):
        members = b"".join(header(f"{number}-{each}", 0) for each in range(20))
        await files.untar(root, once(members + bytes(1024)))
    for work in (
        files.select(root, [TarSelection(directory=".", patterns=("*",))]),
        anext(files.tar(root)),
        files.compress(root, "/scratch/never.tar", "none", pattern=".*", dereference=False),
    ):
        with pytest.raises(TooLargeError, match="more than 50 files and directories"):
            await work  # type: ignore[misc]


async def test_patterns_have_a_limit(remote: tuple[SshHost, str], tmp_path: Path) -> None:
    host, root = remote
    here = LocalHost("here", PathGuard("here", [str(tmp_path)]))
    names = tuple(f"name-{number}" for number in range(5000))
    for files, path in ((host.files("alice"), root), (here.files("alice"), str(tmp_path))):
        await files.write(f"{path}/name-7", once(b""))
        await files.write(f"{path}/[x]*", once(b""))
        found = await files.select(path, [TarSelection(directory=".", patterns=(*names, "[[]x]*", "[[]x][*]"))])
        assert {os.path.normpath(each) for each in found} == {"name-7", "[x]*"}
        for too_many in (
            [TarSelection(directory=".", patterns=tuple(f"*{number}" for number in range(1001)))],
            [TarSelection(directory=".", patterns=("*",))] * 1001,
            [TarSelection(directory=".")] * 10_001,
        ):
            with pytest.raises(TooLargeError, match="More than 10000 selections, or 1000 patterns"):
                await files.select(path, too_many)


def test_comparisons_of_patterns_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "MAX_COMPARISONS", 100)
    ages = {f"f{number}": 0 for number in range(60)}
    selection = TarSelection(directory=".", patterns=("*1", "*2"))

    async def choose() -> None:
        await to_thread.run_sync(selections.Selector([selection]).choose, ages, selection)

    with pytest.raises(TooLargeError, match="more than 100 comparisons"):
        anyio.run(choose)


async def test_memory_that_xz_asks_for(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * MIB, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
    # Only the first bytes say how large the dictionary is; making one of that size would take this test's memory.
    small = lzma.compress(bytes(2048), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    assert filters[0]["dict_size"] > 128 * MIB
    position = small.index(b"\x21\x01", 12)
    block = bytearray(small[12 : 12 + (small[12] + 1) * 4])
    block[position - 12 + 2] = 34  # 2 << (34 // 2 + 11): 512 MiB
    block[-4:] = zlib.crc32(block[:-4]).to_bytes(4, "little")
    (tmp_path / "archive").write_bytes(small[:12] + bytes(block) + small[12 + len(block) :])
    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    with pytest.raises(InvalidRequestError, match="Memory usage limit"):
        await files.extract(f"{tmp_path}/archive", str(tmp_path), "xz")


@pytest.mark.parametrize("how", ["none", *PACKERS])
async def test_what_people_pack_still_unpacks(tmp_path: Path, how: str) -> None:
    """Long names, extended headers, links, holes, several compressed streams in a row, and whatever order."""
    long = "/".join(["directory-with-a-name" * 5] * 20)

    def pieces() -> Iterator[bytes]:
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
                for name in (f"{long}/{form}", f"ünï-{form}"):
                    info = tarfile.TarInfo(name)
                    info.size = 5
                    tar.addfile(info, io.BytesIO(b"hello"))
                link = tarfile.TarInfo(f"link-{form}")
                link.type, link.linkname = tarfile.SYMTYPE, f"{long}/{form}"
                tar.addfile(link)
                again = tarfile.TarInfo(f"again-{form}")
                again.type, again.linkname = tarfile.LNKTYPE, f"ünï-{form}"
                tar.addfile(again)
            yield buffer.getvalue()

    whole = list(pieces())
    whole[0] = whole[0].rstrip(b"\0") + bytes(-len(whole[0].rstrip(b"\0")) % 512)
    content = b"".join(whole if how == "none" else [packed(iter([piece]), how) for piece in whole])
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "out").mkdir()
    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    await files.extract(f"{tmp_path}/archive", f"{tmp_path}/out", how)  # type: ignore[arg-type]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in (f"{long}/{form}", f"ünï-{form}", f"link-{form}", f"again-{form}"):
            assert (tmp_path / "out" / name).read_text() == "hello", name


@pytest.mark.parametrize("cut", [0, 10, 100, 511, 513, 1000, 1500])
@pytest.mark.parametrize("how", ["none", *PACKERS])
async def test_a_cut_archive_is_told_as_such(tmp_path: Path, cut: int, how: str) -> None:
    whole = header("file", 4096) + os.urandom(4096) + bytes(1024)
    content = (whole if how == "none" else packed(iter([whole]), how))[:cut]
    (tmp_path / "archive").write_bytes(content)
    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    with pytest.raises(InvalidRequestError, match="does not look like a whole tar archive"):
        await files.extract(f"{tmp_path}/archive", str(tmp_path), how)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
async def test_the_client_is_as_careful(tmp_path: Path, kind: bytes) -> None:
    content = packed(announced(kind, 16 * MIB), "gzip")
    tracemalloc.start()
    with pytest.raises(TransferError, match="header of more than 64 KiB"):
        list(unpack(io.BytesIO(content), tmp_path, lambda _: True, lambda *_: None, compressed=True))
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()


NOTHING = {
    "gzip": gzip.compress(b""),
    "bzip2": bz2.compress(b""),
    "xz": lzma.compress(b""),
}


@pytest.mark.parametrize("how", [*NOTHING, "gzip name", "gzip padding"])
async def test_bytes_of_which_nothing_is_unpacked(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty streams without end, an endless file name in gzip's header, zeros between two of its members."""
    monkeypatch.setattr(tar, "ALLOWANCE", MIB)
    contents = {
        "gzip name": b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 2 * MIB,
        "gzip padding": gzip.compress(header("file", 0)) + bytes(2 * MIB),
    }
    content = contents.get(how) or NOTHING[how] * (2 * MIB // len(NOTHING[how]))
    await refused(tmp_path, content, how.partition(" ")[0], "nothing is unpacked")


def _archive(members: int, mode: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=mode) as tar:
        for number in range(members):
            info = tarfile.TarInfo(f"d/f{number}.txt")
            info.size, info.mode, info.mtime = 500 + number, 0o640, 1_700_000_000 + number
            tar.addfile(info, io.BytesIO(bytes([number % 256]) * info.size))
    return file.getvalue()


def _header(**fields: Any) -> bytes:
    info = tarfile.TarInfo("d/name")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def _summed(header: bytes, at: int, text: bytes) -> bytes:
    changed = header[:at] + text + header[at + len(text) :]
    total = sum(changed) - sum(changed[148:156]) + 8 * 32
    return changed[:148] + b"%06o\0 " % total + changed[156:]


HEADERS = [
    _header(size=5, mode=0o755, mtime=7),
    _header(size=9 << 33),  # in binary
    _header(mtime=-5),
    _header(type=tarfile.DIRTYPE, name="d/"),
    _header(type=tarfile.SYMTYPE, linkname="x"),
    _header(type=tarfile.AREGTYPE),
    _header(name="n" * 100),
    _header(name="caf\u00e9"),
    _summed(_header(), 345, b"above"),
    _summed(_header(), 124, b" 0000000005 "),
    _summed(_header(), 124, b"nonsense    "),
    _summed(_header(), 124, b"-0000000005 "),
    _summed(_header(), 136, bytes(12)),
    _summed(_header(), 0, b"\xff\xfe"),
    b"\1" + _header()[1:],  # its checksum is wrong
    bytes(512),
    b"",
    b"short",
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_mean_what_tarfile_reads_in_them(header: bytes) -> None:
    def read(kind: Any) -> tuple[object, ...]:
        try:
            info = kind.frombuf(header, "utf-8", "surrogateescape")
        except (tar.tarfile.HeaderError, tarfile.HeaderError) as error:
            return (type(error).__name__,)
        return info.name, info.size, info.mode, info.mtime, info.type, info.linkname

    assert read(_Member) == read(tarfile.TarInfo)


def test_a_small_file_takes_two_reads() -> None:
    """One of its header, and one of its content with what fills the block up."""

    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    source = Counted(_archive(300))
    reader = TarReader(source, "none", ArchiveLimits())
    contents = {member.name: b"".join(reader.content(member)) for member in reader}
    assert contents == {f"d/f{number}.txt": bytes([number % 256]) * (500 + number) for number in range(300)}
    assert source.reads <= 2 * 300 + 5
