"""Directories as tar streams: packed piece by piece, unpacked so that nothing leaves the target."""

from __future__ import annotations

import gzip
import os
import posixpath
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio.from_thread
from anyio.to_thread import run_sync

from crestline.client.files.links import MapLink, map_link
from crestline.client.files.local import CHUNK, changed_error
from crestline.client.files.tree import TreeEntry
from crestline.client.remote_names import safe_relative, temporary_name
from crestline.model import FileType, TransferError
from crestline.wire.tar import ArchiveLimits, TarDamagedError, TarLimitError, TarReader

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 has no extraction filters

_KINDS = {FileType.FILE: tarfile.REGTYPE, FileType.DIRECTORY: tarfile.DIRTYPE, FileType.LINK: tarfile.SYMTYPE}
_LIMITS = ArchiveLimits(members=0, depth=0, ratio=0, bytes=0)
"""none beyond those of headers: what is wanted is known from a listing"""
_END = bytes(2 * tarfile.BLOCKSIZE)


def pack(root: Path, entries: Iterable[TreeEntry], counted: Callable[[int, str], None]) -> Iterator[bytes]:
    """A tar archive of `entries` below `root`, in pieces of at most `CHUNK` bytes.

    Raises:
        TransferError: a file is no longer what `scan` saw.
    """
    for entry in entries:
        info = tarfile.TarInfo(entry.path)
        info.type, info.mode, info.size = _KINDS[entry.type], entry.mode, entry.size
        info.mtime, info.linkname = entry.modified // 1_000_000_000, entry.link_target
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8")
        if entry.is_file:
            yield from _content(root / entry.path, entry, counted)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield _END


def _content(path: Path, entry: TreeEntry, counted: Callable[[int, str], None]) -> Iterator[bytes]:
    left = entry.size
    with path.open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
            counted(len(chunk), entry.path)
        status = os.fstat(file.fileno())
    if left or (status.st_size, status.st_mtime_ns) != (entry.size, entry.modified):
        raise changed_error(path)


async def rechunk(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces as an asynchronous stream, put together to about `CHUNK` bytes in a thread."""

    def gather() -> bytes:
        gathered = bytearray()
        for piece in pieces:
            gathered += piece
            if len(gathered) >= CHUNK:
                break
        return bytes(gathered)

    while chunk := await run_sync(gather):
        yield chunk


def write_gzip(file: IO[bytes], pieces: Iterator[bytes]) -> None:
    """The pieces, compressed; quickly rather than tightly."""
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=3) as packed:
        for piece in pieces:
            packed.write(piece)


class StreamReader:
    """Makes an asynchronous stream readable for a thread of anyio's."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer at the end."""
        while len(self._buffer) < size:
            chunk = anyio.from_thread.run(self._next)
            if chunk is None:
                break
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def unpack(
    file: StreamReader | IO[bytes],
    root: Path,
    wanted: Callable[[str], bool],
    counted: Callable[[int, str], None],
    *,
    compressed: bool = False,
    skip_first: bool = False,
    locate: Callable[[str], tuple[Path, str] | None] | None = None,
    there: str = "",
    map_link: MapLink = map_link,
) -> Iterator[str]:
    """Write the wanted members of a tar archive below `root`, files whole or not at all; yields each when it is there.

    Args:
        wanted: asked for the path below `root` of each member.
        skip_first: members are named from the packed directory's own name on.
        locate: for members that belong below different directories, the one of each and the path there; None: `root`.
        there: absolute path, on the other side, of the directory that the names are below.
        map_link: chooses the target of a link, as the function of this name does; None leaves the link out.

    Raises:
        TransferError: the archive is damaged, or a member would leave `root`.
    """

    def place(path: str) -> tuple[Path, str]:
        return (locate(path) if locate is not None else None) or (top, path)

    top = root
    known: set[tuple[Path, str]] = set()
    try:
        tar = TarReader(file, "gzip" if compressed else "none", _LIMITS)
        for member in tar:
            if member.name == "." or (skip_first and "/" not in member.name.removeprefix("./")):
                continue  # the packed directory itself
            path = _below(member.name, skip_first)
            if not wanted(path):
                continue
            named, (root, path) = path, place(path)
            if member.isdir():
                temp_path_for(root, f"{path}/.")
            elif member.issym():
                below = posixpath.join(there, named.removesuffix(path).rstrip("/"))
                target = map_link(path, member.linkname, below)
                if target is None:
                    continue
                make_link(root, path, target)
            elif member.islnk():
                parent, below = place(_below(member.linkname, skip_first))
                earlier = temp_path_for(parent, below).with_name(posixpath.basename(below))  # reached through no link
                with open(os.open(earlier, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as content:
                    blocks = iter(partial(content.read, CHUNK), b"")
                    _write(root, path, blocks, os.fstat(content.fileno()).st_mode, counted, known)
            else:
                if not member.isreg():
                    raise tarfile.SpecialFileError(member)
                # Its own name is checked already, and what stands there, a link perhaps, is replaced, not followed.
                _write(root, path, tar.content(member), member.mode, counted, known)
            yield named
    except (tarfile.FilterError, TarDamagedError, TarLimitError) as error:
        raise TransferError(f"The archive that came is damaged or unsafe: {error}.", hint="Try again.") from error


def _below(name: str, skip_first: bool) -> str:
    name = name.removeprefix("./")
    return safe_relative(name.partition("/")[2] if skip_first else name)


def _write(
    root: Path,
    path: str,
    content: Iterable[bytes],
    mode: int,
    counted: Callable[[int, str], None],
    known: set[tuple[Path, str]],
) -> None:
    """Write one file; `known` are directories that were found to be none but directories in the same run."""
    above = path.rpartition("/")[0]
    if (root, above) in known:
        temporary = f"{root}/{above}/{temporary_name('.part')}"
    else:
        temporary = str(temp_path_for(root, path))
        known.add((root, above))
    mode = 0o777 if mode & 0o100 else 0o666
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for chunk in content:
                _write_whole(file, chunk)
                counted(len(chunk), path)
        finally:
            os.close(file)
        os.replace(temporary, f"{root}/{path}")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write_whole(file: int, block: bytes) -> None:
    """write(2) until everything is written."""
    written = os.write(file, block)
    while written < len(block):
        written += os.write(file, memoryview(block)[written:])


def make_link(root: Path, path: str, target: str) -> None:
    """A symbolic link at `path` below `root`, in the place of what is there."""
    if (root / path).is_symlink() and os.readlink(root / path) == target:
        return
    temporary = temp_path_for(root, path)
    temporary.symlink_to(target)
    temporary.replace(root / path)


def temp_path_for(root: Path, path: str) -> Path:
    """A new name in the directory where `path` belongs, which is made if need be and never reached through a link.

    Raises:
        TransferError: a link or file stands where a directory belongs.
    """
    place = root
    for part in path.split("/")[:-1]:
        place = place / part
        try:
            place.mkdir()
        except FileExistsError as error:
            if not stat.S_ISDIR(place.lstat().st_mode):
                message = f"{place} is not a directory; nothing is written through it."
                raise TransferError(message, hint="Move it away.") from error
    return place / temporary_name(".part")
