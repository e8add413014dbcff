"""Files that arrive: at once, in order over several requests, or as pieces in any order.

Whatever is unfinished lies beside its target under a temporary name made of the upload's id.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import AsyncIterator

from crestline.gateway.hosts.refusals import check_sum, no_room, upload_stands_at, wrong_length
from crestline.gateway.hosts.streams import blocks, digest_of, temporary_of
from crestline.gateway.hosts.this_machine.content import (
    finish,
    locked,
    publish,
    target_of,
    write_all,
)
from crestline.gateway.hosts.this_machine.workers import Workers
from crestline.gateway.paths import PathGuard
from crestline.model import MissingFileError


class Uploads:
    """The unfinished uploads of one user."""

    def __init__(self, guard: PathGuard, user: str, workers: Workers) -> None:
        self._guard = guard
        self._user = user
        self._workers = workers

    async def write(self, path: str, chunks: AsyncIterator[bytes], checksum: str | None) -> None:
        """A whole file at once."""
        target = await self._workers.quick("write", target_of, self._guard, path)
        temporary = temporary_of(target, uuid.uuid4().hex)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = await self._workers.quick("write", os.open, temporary, flags, 0o600)
        published = False
        try:
            digest = digest_of(checksum) if checksum is not None else None
            offset = 0
            async for block in blocks(chunks):
                if digest is not None:
                    await self._workers.quick("write", digest.update, block)
                await self._workers.quick("write", write_all, descriptor, block, offset)
                offset += len(block)
            if digest is not None and checksum is not None:
                check_sum(digest.hexdigest(), checksum)
            await self._workers.quick("write", publish, descriptor, temporary, target)
            published = True
        finally:
            os.close(descriptor)
            if not published:
                os.unlink(temporary)

    async def offset(self, path: str, upload_id: str) -> int:
        """Bytes that are stored."""
        _, temporary = await self._names(path, upload_id)
        try:
            return (await self._workers.quick("write", os.stat, temporary)).st_size
        except MissingFileError:
            return 0

    async def append(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append in order; what has arrived stays when the rest does not."""
        _, temporary = await self._names(path, upload_id)
        lock = locked(temporary, create=True)
        descriptor = await self._workers.quick("write", lock.__enter__)
        try:
            stored = (await self._workers.quick("write", os.fstat, descriptor)).st_size
            if offset != stored:
                raise upload_stands_at(stored, offset)
            async for block in blocks(chunks):
                await self._workers.quick("write", write_all, descriptor, block, offset)
                offset += len(block)
            return offset
        finally:
            lock.__exit__(None, None, None)

    async def reserve(self, path: str, upload_id: str, size: int) -> None:
        """Make the temporary file in its whole size."""
        target, temporary = await self._names(path, upload_id)
        await self._workers.quick("write", _reserve, temporary, target, size)

    async def piece(self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        """Write one piece and return its MD5, S3's ETag."""
        _, temporary = await self._names(path, upload_id)
        lock = locked(temporary, shared=True)
        descriptor = await self._workers.quick("write", lock.__enter__)
        try:
            digest = hashlib.md5(usedforsecurity=False)
            written = 0
            async for block in blocks(chunks):
                if written + len(block) > length:
                    raise wrong_length(written + len(block), length)
                await self._workers.quick("write", _write_hashed, descriptor, block, offset + written, digest)
                written += len(block)
            if written != length:
                raise wrong_length(written, length)
            return digest.hexdigest()
        finally:
            lock.__exit__(None, None, None)

    async def finish(self, path: str, upload_id: str, checksum: str | None) -> None:
        """Check and rename."""
        target, temporary = await self._names(path, upload_id)
        run = self._workers.quick if checksum is None else self._workers.long
        await run("write", finish, temporary, target, checksum)

    async def discard(self, path: str, upload_id: str) -> None:
        """Drop it."""
        _, temporary = await self._names(path, upload_id)
        try:
            await self._workers.quick("write", os.unlink, temporary)
        except MissingFileError:
            return

    async def _names(self, path: str, upload_id: str) -> tuple[str, str]:
        target = await self._workers.quick("write", target_of, self._guard, path)
        return target, temporary_of(target, f"{self._user}\0{upload_id}")


def _reserve(temporary: str, target: str, size: int) -> None:
    directory = os.path.dirname(target)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
    room = os.statvfs(directory)
    if size > room.f_bavail * room.f_frsize:
        raise no_room(directory, size)
    with locked(temporary, create=True) as descriptor:
        os.ftruncate(descriptor, size)


def _write_hashed(descriptor: int, block: bytes, offset: int, digest: hashlib._Hash) -> None:
    digest.update(block)
    write_all(descriptor, block, offset)
