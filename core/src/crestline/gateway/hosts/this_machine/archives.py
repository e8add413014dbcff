"""Tar archives and tar streams."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

from anyio.from_thread import check_cancelled

from crestline.gateway.hosts.this_machine.content import BLOCK, open_regular, replacing, target_of, write_all
from crestline.gateway.hosts.this_machine.trees import make_directories
from crestline.gateway.paths import PathGuard, is_inside, member_path, printable
from crestline.model import InvalidRequestError
from crestline.wire.filesystem import Compression

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 has no extraction filters

_SUFFIX = {"none": "", "gzip": "gz", "bzip2": "bz2", "xz": "xz"}


def compress(
    guard: PathGuard, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
) -> None:
    """Write a tar archive of `source`, its members named from its own name on; denied files are left out."""
    real = guard.locate(source)
    os.lstat(real)
    directory, name = os.path.split(real)
    names = _matching(directory, name, pattern) if pattern else _below(guard, directory, name, dereference=dereference)
    archive = target_of(guard, target)
    with replacing(archive, uuid.uuid4().hex) as descriptor:
        own = os.fstat(descriptor)
        with (
            os.fdopen(os.dup(descriptor), "wb") as stream,
            tarfile.open(fileobj=stream, mode=f"w:{_SUFFIX[compression]}", dereference=dereference) as tar,  # type: ignore[call-overload]
        ):
            for each in names:
                check_cancelled()
                path = os.path.join(directory, each)
                status = os.lstat(path)
                if path == archive or os.path.samestat(status, own) or guard.is_denied(path):
                    continue
                if stat.S_ISLNK(status.st_mode) and dereference:
                    guard.follow(path)
                tar.add(path, each, recursive=False)


def _below(guard: PathGuard, directory: str, name: str, *, dereference: bool) -> Iterator[str]:
    """`name` and all below it, as paths from `directory` on; a link back to a directory above is not entered."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    while waiting:
        name, above = waiting.pop()
        yield name
        path = os.path.join(directory, name)
        if not os.path.isdir(path) or (os.path.islink(path) and not dereference) or guard.is_denied(path):
            continue
        if dereference:
            path = guard.follow(path)
            if path in above:
                continue
            above = (*above, path)
        waiting += [(os.path.join(name, each), above) for each in sorted(os.listdir(path), reverse=True)]


def _matching(directory: str, name: str, pattern: str) -> list[str]:
    """The files below `name` whose path matches, as find(1) understands the expression.

    FirecREST starts in the directory above, so paths look like `./name/file`; `./file` is tried as well.
    """
    found: set[str] = set()
    for start, prefix in ((directory, ""), (os.path.join(directory, name), name)):
        if not os.path.isdir(start):
            continue
        at = "." if prefix else f"./{name}"
        # find(1) in a process of its own: a malicious expression cannot hold up the gateway.
        result = subprocess.run(
            ["find", at, "-type", "f", "-regex", pattern, "-print0"], cwd=start, capture_output=True, check=False
        )
        if result.returncode != 0:
            raise InvalidRequestError(f"find: {printable(os.fsdecode(result.stderr)).strip()}")
        paths = os.fsdecode(result.stdout).split("\0")
        found |= {os.path.normpath(os.path.join(prefix, each)) for each in paths if each}
    return sorted(found)


def extract(guard: PathGuard, archive: str, target: str, compression: Compression) -> None:
    """Unpack an archive into an existing directory."""
    with os.fdopen(open_regular(guard, archive), "rb") as stream:
        unpack(guard, stream, target, f"r|{_SUFFIX[compression]}")


def unpack(guard: PathGuard, stream: IO[bytes], target: str, mode: str = "r|*") -> None:
    """Write the members of a tar stream below `target`, each file atomically.

    Raises:
        InvalidRequestError: not a tar stream, cut off, or with a member that would leave `target`.
    """
    directory = guard.follow(target)
    if not os.path.isdir(directory):
        os.listdir(directory)  # raises what is wrong with it
    try:
        with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
            times: list[tuple[str, tarfile.TarInfo]] = []
            for member in tar:
                check_cancelled()
                _make_way(guard, member, directory)
                safe = tarfile.data_filter(member, directory)
                path = _unpack_member(guard, tar, safe, directory)
                if safe.isdir():
                    times.append((path, safe))
            for path, made in reversed(times):
                os.utime(path, (made.mtime, made.mtime))
    except tarfile.FilterError as error:
        raise InvalidRequestError(
            f"tar: {printable(str(error))}", hint="Members must stay below the target directory."
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InvalidRequestError(
            f"tar: This does not look like a whole tar archive: {printable(str(error))}",
            hint="Check the archive and its compression.",
        ) from error


def _make_way(guard: PathGuard, member: tarfile.TarInfo, directory: str) -> None:
    """Remove the link that a member replaces: as for tar(1), what is replaced is the link, not what it leads to."""
    path = os.path.normpath(os.path.join(directory, member.name.lstrip("/")))
    parent = os.path.realpath(os.path.dirname(path))
    if not member.isdir() and os.path.islink(path) and is_inside(parent, directory):
        os.unlink(guard.locate(path))


def _unpack_member(guard: PathGuard, tar: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> str:
    path = os.path.normpath(os.path.join(directory, member.name))
    if member.isdir():
        real = guard.follow(path)
        make_directories(real)
        return real
    make_directories(guard.follow(os.path.dirname(path)))
    place = guard.locate(path)
    if member.issym():
        if os.path.lexists(place) and not os.path.isdir(place):
            os.unlink(place)
        os.symlink(member.linkname, place)
    elif member.islnk():
        source = guard.locate(os.path.normpath(os.path.join(directory, member.linkname)))
        if os.path.lexists(place):
            os.unlink(place)
        os.link(source, place, follow_symlinks=False)
    else:
        _unpack_file(guard, tar, member, place)
    return place


def _unpack_file(guard: PathGuard, tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
    content = tar.extractfile(member)
    with replacing(target_of(guard, place), uuid.uuid4().hex, member.mode) as descriptor:
        offset = 0
        while content is not None and (block := content.read(BLOCK)):
            check_cancelled()
            write_all(descriptor, block, offset)
            offset += len(block)
        if offset != member.size:
            raise tarfile.ReadError("unexpected end of data")
    os.utime(place, (member.mtime, member.mtime))


def pack(guard: PathGuard, path: str, members: Sequence[str] | None, *, gzip: bool) -> Iterator[bytes]:
    """A directory, or the named members below it, as a tar stream; made as it is read."""
    plain = _pack(guard, guard.follow(path), members)
    if not gzip:
        yield from plain
        return
    packer = zlib.compressobj(wbits=31)
    for block in plain:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()


def _pack(guard: PathGuard, root: str, members: Sequence[str] | None) -> Iterator[bytes]:
    names = _children(guard, root) if members is None else [_named(guard, root, each) for each in members]
    with tarfile.TarFile(fileobj=io.BytesIO(), mode="w") as maker:
        for name in names:
            check_cancelled()
            path = os.path.join(root, name)
            if not guard.is_denied(path):
                yield from _member(maker, guard, path, name)
    yield b"\0" * tarfile.RECORDSIZE


def _named(guard: PathGuard, root: str, member: str) -> str:
    """The normalised name of a member that was asked for, which must be there."""
    path = member_path(root, member)
    os.lstat(guard.locate(path))
    return os.path.relpath(path, root)


def _children(guard: PathGuard, root: str) -> Iterator[str]:
    for name in sorted(os.listdir(root)):
        yield from _below(guard, root, name, dereference=False)


def _member(maker: tarfile.TarFile, guard: PathGuard, path: str, name: str) -> Iterator[bytes]:
    try:
        info = maker.gettarinfo(path, name)
    except FileNotFoundError:
        return  # removed while we looked
    if info is None or not (info.isreg() or info.islnk() or info.isdir() or info.issym()):
        return
    if not (info.isreg() or info.islnk()):
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    descriptor = open_regular(guard, path)
    try:
        info.type, info.linkname = tarfile.REGTYPE, ""  # a hard link travels as the file that it is
        info.size = os.fstat(descriptor).st_size
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        offset = 0
        while offset < info.size:
            block = os.pread(descriptor, min(BLOCK, info.size - offset), offset)
            block = block or b"\0" * min(BLOCK, info.size - offset)  # the file became shorter meanwhile
            yield block
            offset += len(block)
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    finally:
        os.close(descriptor)
