"""The files of this machine."""

from __future__ import annotations

import grp
import io
import os
import pwd
import stat
from collections.abc import AsyncIterator, Sequence
from typing import IO, cast

from anyio import from_thread

from crestline.gateway.hosts.base import Files, OpenFile
from crestline.gateway.hosts.file_modes import apply_mode
from crestline.gateway.hosts.this_machine import archives, listing, trees, unpacking
from crestline.gateway.hosts.this_machine.content import LocalFile, open_regular, sha256_of
from crestline.gateway.hosts.this_machine.kind import file_type
from crestline.gateway.hosts.this_machine.uploads import Uploads
from crestline.gateway.hosts.this_machine.workers import Workers
from crestline.gateway.paths import PathGuard, member_path, printable
from crestline.model import InvalidRequestError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Checksum, Compression, FileEntry, FileStat


class LocalFiles(Files):
    """Every call checks where the links of its paths lead, and works in a thread."""

    def __init__(self, guard: PathGuard, user: str, workers: Workers) -> None:
        self._guard = guard
        self._workers = workers
        self._uploads = Uploads(guard, user, workers)

    async def list(
        self,
        path: str,
        *,
        hidden: bool = False,
        recursive: bool = False,
        dereference: bool = False,
        numeric: bool = False,
    ) -> Sequence[FileEntry]:
        run = self._workers.long if recursive else self._workers.quick
        return await run(
            "ls",
            listing.list_entries,
            self._guard,
            path,
            hidden=hidden,
            recursive=recursive,
            dereference=dereference,
            numeric=numeric,
        )

    async def entry(self, path: str) -> FileEntry:
        return await self._workers.quick("ls", _entry, self._guard, path)

    async def stat(self, path: str, *, dereference: bool = False) -> FileStat:
        return await self._workers.quick("stat", listing.file_stat, self._guard, path, dereference=dereference)

    async def open(self, path: str) -> OpenFile:
        descriptor = await self._workers.quick("open", open_regular, self._guard, path)
        return LocalFile(descriptor, self._workers)

    async def write(self, path: str, chunks: AsyncIterator[bytes], *, checksum: str | None = None) -> None:
        await self._uploads.write(path, chunks, checksum)

    async def upload_offset(self, path: str, upload_id: str) -> int:
        return await self._uploads.offset(path, upload_id)

    async def upload_part(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        return await self._uploads.append(path, upload_id, offset, chunks)

    async def upload_reserve(self, path: str, upload_id: str, size: int) -> None:
        await self._uploads.reserve(path, upload_id, size)

    async def upload_piece(
        self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]
    ) -> str:
        return await self._uploads.piece(path, upload_id, offset, length, chunks)

    async def upload_finish(self, path: str, upload_id: str, checksum: str | None = None) -> None:
        await self._uploads.finish(path, upload_id, checksum)

    async def upload_discard(self, path: str, upload_id: str) -> None:
        await self._uploads.discard(path, upload_id)

    async def make_directory(self, path: str, *, parents: bool = False) -> FileEntry:
        return await self._workers.quick("mkdir", _make_directory, self._guard, path, parents)

    async def symlink(self, target: str, link: str) -> FileEntry:
        return await self._workers.quick("ln", _symlink, self._guard, target, link)

    async def chmod(self, path: str, mode: str) -> FileEntry:
        return await self._workers.quick("chmod", _chmod, self._guard, path, mode)

    async def chown(self, path: str, owner: str, group: str) -> FileEntry:
        return await self._workers.quick("chown", _chown, self._guard, path, owner, group)

    async def remove(self, path: str) -> None:
        await self._workers.long("rm", trees.remove, self._guard, path)

    async def copy(self, source: str, target: str, *, dereference: bool = False) -> None:
        await self._workers.long("cp", trees.copy, self._guard, source, target, dereference=dereference)

    async def move(self, source: str, target: str) -> None:
        await self._workers.long("mv", trees.move, self._guard, source, target)

    async def checksum(self, path: str) -> Checksum:
        return Checksum(checksum=await self._workers.long("sha256sum", _sha256, self._guard, path))

    async def file_type(self, path: str) -> str:
        return await self._workers.quick("file", file_type, self._guard, path)

    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        await self._workers.long(
            "tar",
            archives.compress,
            self._guard,
            source,
            target,
            compression,
            pattern=pattern,
            dereference=dereference,
        )

    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        await self._workers.long("tar", unpacking.extract, self._guard, archive, target, compression)

    def tar(self, path: str, members: Sequence[str] | None = None, *, gzip: bool = False) -> AsyncIterator[bytes]:
        return self._workers.iterate("tar", archives.pack(self._guard, path, members, gzip=gzip))

    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        return await self._workers.long("tar", archives.select, self._guard, path, selections)

    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        stream = cast("IO[bytes]", io.BufferedReader(_Chunks(chunks)))
        await self._workers.long("tar", unpacking.unpack, self._guard, stream, path)

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        return await self._workers.long("sha256sum", _changed, self._guard, path, checksums)


class _Chunks(io.RawIOBase):
    """An asynchronous stream as a file for a worker thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._waiting:
            chunk = from_thread.run(self._next)
            if chunk is None:
                return 0
            self._waiting = chunk
        size = min(len(buffer), len(self._waiting))
        buffer[:size], self._waiting = self._waiting[:size], self._waiting[size:]
        return size

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)


def _entry(guard: PathGuard, path: str) -> FileEntry:
    return listing.describe(guard, guard.locate(path), guard.check(path), listing.Names())


def _make_directory(guard: PathGuard, path: str, parents: bool) -> FileEntry:
    real = guard.locate(path)
    if parents:
        trees.make_directories(guard.follow(path))
    else:
        os.mkdir(real)
    return _entry(guard, path)


def _symlink(guard: PathGuard, target: str, link: str) -> FileEntry:
    guard.follow(target)
    os.symlink(guard.check(target), guard.locate(link))
    return _entry(guard, link)


def _chmod(guard: PathGuard, path: str, mode: str) -> FileEntry:
    real = guard.follow(path)
    now = os.stat(real).st_mode
    os.chmod(real, apply_mode(mode, stat.S_IMODE(now), is_directory=stat.S_ISDIR(now)))
    return _entry(guard, path)


def _chown(guard: PathGuard, path: str, owner: str, group: str) -> FileEntry:
    uid, gid = -1, -1
    if owner:
        try:
            uid = pwd.getpwnam(owner).pw_uid
        except (KeyError, ValueError):
            uid = _number(owner, "user")
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except (KeyError, ValueError):
            gid = _number(group, "group")
    os.chown(guard.follow(path), uid, gid)
    return _entry(guard, path)


def _number(name: str, what: str) -> int:
    if not name.isascii() or not name.isdigit() or int(name) >= 2**32 - 1:
        raise InvalidRequestError(f"chown: invalid {what}: '{printable(name)}'")
    return int(name)


def _sha256(guard: PathGuard, path: str) -> str:
    descriptor = open_regular(guard, path)
    try:
        return sha256_of(descriptor)
    finally:
        os.close(descriptor)


def _changed(guard: PathGuard, path: str, checksums: dict[str, str]) -> Sequence[str]:
    directory = guard.follow(path)
    changed = []
    for name, checksum in checksums.items():
        try:
            same = _sha256(guard, member_path(directory, name)) == checksum.lower()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            same = False
        if not same:
            changed.append(name)
    return changed
