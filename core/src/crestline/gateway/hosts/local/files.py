"""The files of this machine."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from anyio import from_thread

from crestline.gateway.hosts.base import Files, OpenFile, TemporaryFiles
from crestline.gateway.hosts.file_modes import apply_mode
from crestline.gateway.hosts.local import archives, listing, trees, unpacking
from crestline.gateway.hosts.local.beneath import ServedTrees
from crestline.gateway.hosts.local.content import LocalFile, open_path, sha256_of
from crestline.gateway.hosts.local.kind import file_type
from crestline.gateway.hosts.local.uploads import Uploads
from crestline.gateway.hosts.local.workers import Workers
from crestline.gateway.hosts.streams import temporary_of
from crestline.gateway.hosts.threads import check_cancelled
from crestline.gateway.paths import member_path, printable
from crestline.model import FileMissingError, InvalidRequestError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Checksum, Compression, FileEntry, FileStat
from crestline.wire.tar import ArchiveLimits


class LocalFiles(Files):
    """Files of this machine. Every call runs in a thread, below the descriptors of directories that `beneath` opens."""

    def __init__(
        self, trees: ServedTrees, user: str, workers: Workers, limits: ArchiveLimits, temporary_files: TemporaryFiles
    ) -> None:
        self._trees = trees
        self._workers = workers
        self._limits = limits
        self._user = user
        self._temporary_files = temporary_files
        self.uploads = Uploads(trees, user, workers, temporary_files)

    def check(self, path: str) -> str:
        return self._trees.check(path)

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
            self._trees,
            path,
            hidden=hidden,
            recursive=recursive,
            dereference=dereference,
            numeric=numeric,
        )

    async def entry(self, path: str) -> FileEntry:
        return await self._workers.quick("ls", listing.describe_path, self._trees, path)

    async def stat(self, path: str, *, dereference: bool = False) -> FileStat:
        return await self._workers.quick("stat", listing.file_stat, self._trees, path, dereference=dereference)

    async def open(self, path: str) -> OpenFile:
        descriptor = await self._workers.quick("open", open_path, self._trees, path)
        return LocalFile(descriptor, self._workers)

    async def discard_temporary(self, path: str) -> None:
        with suppress(FileMissingError):
            await self._workers.long("rm", trees.remove, self._trees, path)

    async def discard_temporaries(self, path: str, identifier: str) -> None:
        with suppress(FileMissingError):
            await self._workers.long("rm", trees.remove_named, self._trees, path, _temporary(identifier))

    @asynccontextmanager
    async def _operation(self, target: str) -> AsyncIterator[str]:
        """Record an operation that writes to `target`, and yield the name of its temporary files."""
        identifier = uuid.uuid4().hex
        path = self.check(target)
        await self._temporary_files.begin_operation(self._user, path, identifier)
        try:
            yield _temporary(identifier)
        finally:
            await self._temporary_files.end_operation(self._user, path, identifier)

    async def make_directory(self, path: str, *, parents: bool = False) -> FileEntry:
        return await self._workers.quick("mkdir", _make_directory, self._trees, path, parents)

    async def symlink(self, target: str, link: str) -> FileEntry:
        return await self._workers.quick("ln", _symlink, self._trees, target, link)

    async def chmod(self, path: str, mode: str) -> FileEntry:
        return await self._workers.quick("chmod", _chmod, self._trees, path, mode)

    async def chown(self, path: str, owner: str, group: str) -> FileEntry:
        return await self._workers.quick("chown", _chown, self._trees, path, owner, group)

    async def remove(self, path: str) -> None:
        await self._workers.long("rm", trees.remove, self._trees, path)

    async def copy(self, source: str, target: str, *, dereference: bool = False) -> None:
        async with self._operation(target) as temporary:
            await self._workers.long("cp", trees.copy, self._trees, source, target, temporary, dereference=dereference)

    async def move(self, source: str, target: str) -> None:
        async with self._operation(target) as temporary:
            await self._workers.long("mv", trees.move, self._trees, source, target, temporary)

    async def checksum(self, path: str) -> Checksum:
        return Checksum(checksum=await self._workers.long("sha256sum", _sha256, self._trees, path))

    async def file_type(self, path: str) -> str:
        return await file_type(self._workers, self._trees, path)

    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        async with self._operation(target) as temporary:
            await self._workers.long(
                "tar",
                archives.compress,
                self._trees,
                source,
                target,
                compression,
                temporary,
                pattern=pattern,
                dereference=dereference,
            )

    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        async with self._operation(target) as temporary:
            await self._workers.long(
                "tar", unpacking.extract, self._trees, archive, target, compression, self._limits, temporary
            )

    def tar(self, path: str, members: Sequence[str] | None = None, *, gzip: bool = False) -> AsyncIterator[bytes]:
        return self._workers.iterate("tar", archives.pack(self._trees, path, members, gzip=gzip))

    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        return await self._workers.long("tar", archives.select, self._trees, path, selections, self._limits)

    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        async with self._operation(path) as temporary:
            await self._workers.arriving(
                "tar", unpacking.unpack, self._trees, _Chunks(chunks), path, self._limits, temporary
            )

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        return await self._workers.long("sha256sum", _changed, self._trees, path, checksums)


class _Chunks:
    """An asynchronous stream as a file object for a worker thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._waiting = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        while not self._waiting:
            chunk = from_thread.run(self._next)
            if chunk is None:
                return b""
            self._waiting = memoryview(chunk)
        block, self._waiting = bytes(self._waiting[:size]), self._waiting[size:]
        return block

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)


def _temporary(identifier: str) -> str:
    return temporary_of("", identifier)


def _make_directory(trees: ServedTrees, path: str, parents: bool) -> FileEntry:
    if parents:
        directory, _ = trees.make_directory(path)
        directory.close()
    else:
        with trees.locate(path) as place:
            place.directory.mkdir(place.name)
    return listing.describe_path(trees, path)


def _symlink(trees: ServedTrees, target: str, link: str) -> FileEntry:
    with trees.locate(target, follow=True), trees.locate(link) as place:
        place.directory.symlink(trees.check(target), place.name)
    return listing.describe_path(trees, link)


def _chmod(trees: ServedTrees, path: str, mode: str) -> FileEntry:
    with trees.locate(path, follow=True) as place:
        now = place.directory.lstat(place.name).st_mode
        wanted = apply_mode(mode, stat.S_IMODE(now), is_directory=stat.S_ISDIR(now))
        place.directory.chmod(place.name, wanted)
    return listing.describe_path(trees, path)


def _chown(trees: ServedTrees, path: str, owner: str, group: str) -> FileEntry:
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
    with trees.locate(path, follow=True) as place:
        place.directory.chown(place.name, uid, gid)
    return listing.describe_path(trees, path)


def _number(name: str, what: str) -> int:
    if not name.isascii() or not name.isdigit() or int(name) >= 2**32 - 1:
        raise InvalidRequestError(f"chown: invalid {what}: '{printable(name)}'")
    return int(name)


def _sha256(trees: ServedTrees, path: str) -> str:
    descriptor = open_path(trees, path)
    try:
        return sha256_of(descriptor)
    finally:
        os.close(descriptor)


def _changed(trees: ServedTrees, path: str, checksums: dict[str, str]) -> Sequence[str]:
    root = trees.check(path)
    changed = []
    for name, checksum in checksums.items():
        check_cancelled()
        try:
            same = _sha256(trees, member_path(root, name)) == checksum.lower()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            same = False
        if not same:
            changed.append(name)
    return changed
