"""Packing tar archives and tar streams."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from anyio.from_thread import check_cancelled

from crestline.gateway.hosts.selections import chosen
from crestline.gateway.hosts.streams import BLOCK
from crestline.gateway.hosts.this_machine.content import open_regular, replacing, target_of
from crestline.gateway.hosts.this_machine.unpacking import SUFFIX
from crestline.gateway.paths import PathGuard, member_path, printable
from crestline.model import InvalidRequestError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Compression

if TYPE_CHECKING:
    from typing_extensions import Buffer
if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 has no extraction filters

_BETWEEN_LOOKS = 4096
"""bytes of an archive between two looks whether it is still wanted"""


def compress(
    guard: PathGuard, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
) -> None:
    """Write a tar archive of `source`, its members named from its own name on; denied files are left out."""
    real = guard.locate(source)
    os.lstat(real)
    directory, name = os.path.split(real)
    names = _matching(directory, name, pattern) if pattern else _below(guard, directory, name, dereference=dereference)
    archive = target_of(guard, target)
    mode = f"w:{SUFFIX[compression]}"
    with replacing(archive, uuid.uuid4().hex) as descriptor:
        own = os.fstat(descriptor)
        with (
            io.BufferedWriter(_Stoppable(os.dup(descriptor), "wb"), _BETWEEN_LOOKS) as stream,
            tarfile.open(fileobj=stream, mode=mode, dereference=dereference) as tar,  # type: ignore[call-overload]
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
                tar.members.clear()  # else a large tree fills the memory


class _Stoppable(io.FileIO):
    """Asks at each write whether the caller was cancelled: one member may be all of a large archive."""

    def write(self, data: Buffer) -> int:
        check_cancelled()
        return super().write(data)


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


def select(guard: PathGuard, path: str, selections: Sequence[TarSelection]) -> list[str]:
    """Names below `path` of the files and links that are selected."""
    root = guard.follow(path)
    os.listdir(root)  # raises what is wrong with it
    found: dict[str, None] = {}
    for selection in selections:
        directory = os.path.relpath(member_path(root, selection.directory), root)
        ages = {}
        for name in _below(guard, root, directory, dereference=False):
            check_cancelled()
            place = os.path.join(root, name)
            if guard.is_denied(place) or not os.path.lexists(place):
                continue
            status = os.lstat(place)
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                ages[os.path.relpath(name, directory)] = status.st_mtime_ns
        found |= dict.fromkeys(os.path.join(directory, name) for name in chosen(ages, selection))
    return list(found)


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
    maker.inodes.clear()  # type: ignore[attr-defined]  # a hard link travels as the file that it is
    try:
        info = maker.gettarinfo(path, name)
    except FileNotFoundError:
        return  # removed while we looked
    if info is None or not (info.isreg() or info.isdir() or info.issym()):
        return
    if not info.isreg():
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    descriptor = open_regular(guard, path)
    try:
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
