"""Creates tar archives and tar streams."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from crestline.gateway.hosts.local.beneath import Directory, Place, ServedTrees
from crestline.gateway.hosts.local.content import open_regular, open_target, replacing, write_all
from crestline.gateway.hosts.local.listing import Names
from crestline.gateway.hosts.local.walk import DirectoryCache, walk
from crestline.gateway.hosts.refusals import too_many_entries
from crestline.gateway.hosts.selections import Selector, path_pattern
from crestline.gateway.hosts.streams import BLOCK
from crestline.gateway.hosts.threads import check_cancelled
from crestline.gateway.paths import directory_below, member_path
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Compression
from crestline.wire.tar import ArchiveLimits

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 lacks extraction filters

_PIECE = 256 * 1024
"""Minimum size in bytes of a piece, so that many small files need few steps."""
_SPARE = bytes(tarfile.BLOCKSIZE)
_OCTAL_LIMIT = 8**11
"""Limit of sizes in a plain header."""

_Found = tuple[Directory, str, str, os.stat_result]
"""Directory and name of a file, its name in the archive, and its status."""


def compress(
    trees: ServedTrees,
    source: str,
    target: str,
    compression: Compression,
    temporary: str,
    *,
    pattern: str | None,
    dereference: bool,
) -> None:
    """Write a tar archive of `source`. The names of its members start with its own name."""
    is_wanted = path_pattern(pattern) if pattern else None
    with trees.locate(source) as original:
        original.directory.lstat(original.name)
        place = open_target(trees, target)
        with place.directory, replacing(place, temporary) as descriptor:
            top = os.path.basename(trees.check(source)) or "."
            itself = (os.fstat(descriptor), _status(place))
            found = _below(trees, original, top, itself, dereference=dereference and not pattern)
            if is_wanted is not None:
                found = (each for each in found if stat.S_ISREG(each[3].st_mode) and _matches(is_wanted, each[2], top))
            offset = 0
            for block in _packed(_tar(found, Names()), _packer(compression)):
                check_cancelled()
                write_all(descriptor, block, offset)
                offset += len(block)


def pack(trees: ServedTrees, path: str, members: Sequence[str] | None, *, gzip: bool) -> Iterator[bytes]:
    """Stream a directory, or the named members below it, as tar, created while it is read."""
    packer = zlib.compressobj(wbits=31) if gzip else None
    if members is None:
        with trees.locate(path, follow=True) as place, place.directory.enter(place.name):
            visits = walk(place.directory, place.name)
            found = (
                (each.directory, each.name, each.below, each.status)
                for each in visits
                if each.below and not each.leaving
            )
            yield from _packed(_tar(found, None), packer)
        return
    root = trees.check(path)
    with DirectoryCache(trees, root) as directories:
        directories.get(".")
        names = [os.path.relpath(member_path(root, each), root) for each in members]
        for name in names:  # a missing member must be detected before the stream begins
            directories.get(os.path.dirname(name) or ".").lstat(os.path.basename(name))
        yield from _packed(_tar(_named(directories, names), None), packer)


def select(trees: ServedTrees, path: str, selections: Sequence[TarSelection], limits: ArchiveLimits) -> list[str]:
    """Return the names of the selected files and links below `path`.

    Raises:
        TooLargeError: the number of selections, patterns or files is too large.
    """
    selector = Selector(selections)
    seen = 0
    root = trees.check(path)
    with trees.directory(root):
        pass  # the directory must exist
    found: dict[str, None] = {}
    for selection in selections:
        directory = directory_below(root, selection.directory)
        ages: dict[str, int] = {}
        try:
            with trees.locate(os.path.join(root, directory), follow=directory == ".") as place:
                for visit in walk(place.directory, place.name):
                    seen += not visit.leaving
                    if 0 < limits.members < seen:
                        raise too_many_entries(limits.members)
                    if stat.S_ISREG(visit.status.st_mode) or stat.S_ISLNK(visit.status.st_mode):
                        ages[visit.below or "."] = visit.status.st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            continue
        names = selector.choose(ages, selection)
        found |= dict.fromkeys(os.path.normpath(os.path.join(directory, name)) for name in names)
    return list(found)


def _status(place: Place) -> os.stat_result | None:
    try:
        return place.directory.lstat(place.name)
    except FileNotFoundError:
        return None


def _below(
    trees: ServedTrees, original: Place, top: str, left_out: Sequence[os.stat_result | None], *, dereference: bool
) -> Iterator[_Found]:
    """Yield `original`, called `top`, and everything below it. A link to a parent directory is not followed."""
    for visit in walk(original.directory, original.name, follow=trees if dereference else None):
        if visit.leaving or any(each is not None and os.path.samestat(each, visit.status) for each in left_out):
            continue
        yield visit.directory, visit.name, f"{top}/{visit.below}" if visit.below else top, visit.status


def _matches(is_wanted: Callable[[str], bool], name: str, top: str) -> bool:
    """Match as FirecREST, which starts in the parent directory, so that paths look like `./name/file`; also try
    `./file`."""
    return is_wanted(f"./{name}") or (name != top and is_wanted(f"./{name[len(top) + 1 :]}"))


def _named(directories: DirectoryCache, names: Iterable[str]) -> Iterator[_Found]:
    for each in names:
        above, name = os.path.split(each)
        try:
            directory = directories.get(above or ".")
            status = directory.lstat(name)
        except FileNotFoundError:
            continue  # removed meanwhile
        yield directory, name, each, status


def _tar(found: Iterable[_Found], names: Names | None) -> Iterator[bytes]:
    """Yield headers and contents in turn. With `names`, headers have the names of owners."""
    for directory, name, shown, status in found:
        kind = status.st_mode
        if stat.S_ISREG(kind):
            yield from _file(directory, name, shown, names)
        elif stat.S_ISDIR(kind):
            yield _header(shown, status, tarfile.DIRTYPE, names)
        elif stat.S_ISLNK(kind):
            try:
                points_to = directory.readlink(name)
            except FileNotFoundError:
                continue
            yield _header(shown, status, tarfile.SYMTYPE, names, points_to)
    yield bytes(tarfile.RECORDSIZE)


def _file(directory: Directory, name: str, shown: str, names: Names | None) -> Iterator[bytes]:
    try:
        descriptor = open_regular(directory, name)
    except FileNotFoundError:
        return  # removed meanwhile
    try:
        status = os.fstat(descriptor)
        yield _header(shown, status, tarfile.REGTYPE, names)
        left = status.st_size
        while left:
            block = os.read(descriptor, min(BLOCK, left))
            block = block or bytes(min(BLOCK, left))  # the file became shorter meanwhile
            yield block
            left -= len(block)
        if rest := -status.st_size % tarfile.BLOCKSIZE:
            yield _SPARE[:rest]
    finally:
        os.close(descriptor)


def _header(shown: str, status: os.stat_result, kind: bytes, names: Names | None, points_to: str = "") -> bytes:
    mode, uid, gid, modified = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime)
    size = status.st_size if kind == tarfile.REGTYPE else 0
    plain = len(shown) < 100 and len(points_to) < 100 and shown.isascii() and points_to.isascii()
    plain = plain and size < _OCTAL_LIMIT and 0 <= modified < _OCTAL_LIMIT and max(uid, gid) < 8**7
    if plain and names is None:  # three times faster than tarfile, and sufficient for many small files
        name = f"{shown}/" if kind == tarfile.DIRTYPE else shown
        head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.encode().ljust(100, b"\0"), mode, uid, gid, size, modified)
        tail = b"%b%bustar\x0000" % (kind, points_to.encode().ljust(100, b"\0"))
        return (head + b"%06o\0 " % (sum(head) + sum(tail) + sum(b" " * 8)) + tail).ljust(tarfile.BLOCKSIZE, b"\0")
    info = tarfile.TarInfo(shown)
    info.type, info.linkname, info.size = kind, points_to, size
    info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, modified
    if names is not None:
        info.uname, info.gname = names.user(uid), names.group(gid)
    return info.tobuf(tarfile.USTAR_FORMAT if plain else tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _packer(compression: Compression) -> _Packer | None:
    match compression:
        case "gzip":
            return zlib.compressobj(wbits=31)
        case "bzip2":
            return bz2.BZ2Compressor()
        case "xz":
            return lzma.LZMACompressor()
    return None


def _packed(pieces: Iterator[bytes], packer: _Packer | None) -> Iterator[bytes]:
    """Combine pieces and compress them."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _PIECE:
            block = bytes(gathered) if packer is None else packer.compress(bytes(gathered))
            gathered.clear()
            if block:
                yield block
    yield bytes(gathered) if packer is None else packer.compress(bytes(gathered)) + packer.flush()
