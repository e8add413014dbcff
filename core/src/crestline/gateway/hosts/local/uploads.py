"""Files being uploaded: at once, in order over several requests, or as parts in any order.

An unfinished upload is beside its target under a temporary name with the upload's id.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from crestline.gateway.hosts import base
from crestline.gateway.hosts.base import TemporaryFiles
from crestline.gateway.hosts.local.beneath import Place, ServedTrees
from crestline.gateway.hosts.local.content import (
    create,
    finish,
    locked,
    open_target,
    publish,
    write_all,
)
from crestline.gateway.hosts.local.workers import Workers
from crestline.gateway.hosts.refusals import check_sum, insufficient_space, offset_mismatch, wrong_length
from crestline.gateway.hosts.streams import blocks, digest_of, temporary_of
from crestline.model import FileMissingError


class Uploads(base.Uploads):
    """The unfinished uploads of one user."""

    def __init__(self, trees: ServedTrees, user: str, workers: Workers, temporary_files: TemporaryFiles) -> None:
        self._trees = trees
        self._user = user
        self._workers = workers
        self._temporary_files = temporary_files

    async def write(self, path: str, chunks: AsyncIterator[bytes], checksum: str | None) -> None:
        async with self._target(path, "") as (place, _):
            descriptor, temporary = await self._workers.quick("write", create, place)
            published = False
            named = None if temporary is None else place.directory.path_of(temporary)
            try:
                if named is not None:
                    await self._temporary_files.begin(self._user, named)
                digest = digest_of(checksum) if checksum is not None else None
                offset = 0
                async for block in blocks(chunks):
                    if digest is not None:
                        await self._workers.quick("write", digest.update, block)
                    await self._workers.quick("write", write_all, descriptor, block, offset)
                    offset += len(block)
                if digest is not None and checksum is not None:
                    check_sum(digest.hexdigest(), checksum)
                await self._workers.quick("write", publish, descriptor, temporary, place)
                published = True
            finally:
                os.close(descriptor)
                if not published and temporary is not None:
                    with suppress(FileNotFoundError):  # it was renamed while the request was cancelled
                        place.directory.unlink(temporary)
                if named is not None:
                    await self._temporary_files.end(self._user, named, is_gone=True)

    async def offset(self, path: str, upload_id: str) -> int:
        async with self._unfinished(path, upload_id) as (place, temporary):
            try:
                return (await self._workers.quick("write", place.directory.lstat, temporary)).st_size
            except FileMissingError:
                return 0

    async def append(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append in order. Bytes that have arrived are kept if the rest does not arrive."""
        async with self._held(path, upload_id, create=True) as descriptor:
            stored = (await self._workers.quick("write", os.fstat, descriptor)).st_size
            if offset != stored:
                raise offset_mismatch(stored, offset)
            async for block in blocks(chunks):
                await self._workers.quick("write", write_all, descriptor, block, offset)
                offset += len(block)
            return offset

    async def reserve(self, path: str, upload_id: str, size: int) -> None:
        async with self._unfinished(path, upload_id) as (place, temporary):
            await self._workers.quick("write", _reserve, place, temporary, size)

    async def piece(self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        async with self._held(path, upload_id, shared=True) as descriptor:
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

    async def finish(self, path: str, upload_id: str, checksum: str | None = None) -> None:
        async with self._unfinished(path, upload_id) as (place, temporary):
            run = self._workers.quick if checksum is None else self._workers.long
            await run("write", finish, place, temporary, checksum)

    async def discard(self, path: str, upload_id: str) -> None:
        try:
            async with self._unfinished(path, upload_id, check=False) as (place, temporary):
                await self._workers.quick("write", place.directory.unlink, temporary)
        except FileMissingError:
            return

    def _unfinished(
        self, path: str, upload_id: str, *, check: bool = True
    ) -> AbstractAsyncContextManager[tuple[Place, str]]:
        return self._target(path, f"{self._user}\0{upload_id}", check=check)

    @asynccontextmanager
    async def _target(self, path: str, identifier: str, *, check: bool = True) -> AsyncIterator[tuple[Place, str]]:
        """Yield the place of the file, and the temporary name beside it that it has until it is complete."""
        place = await self._workers.quick("write", open_target if check else _open_parent, self._trees, path)
        try:
            yield place, temporary_of(place.name, identifier)
        finally:
            place.directory.close()

    @asynccontextmanager
    async def _held(
        self, path: str, upload_id: str, *, create: bool = False, shared: bool = False
    ) -> AsyncIterator[int]:
        async with self._unfinished(path, upload_id) as (place, temporary):
            lock = locked(place, temporary, create=create, shared=shared)
            descriptor = await self._workers.quick("write", lock.__enter__)
            try:
                yield descriptor
            finally:
                lock.__exit__(None, None, None)


def _open_parent(trees: ServedTrees, path: str) -> Place:
    return trees.open_parent(path, follow=True)


def _reserve(place: Place, temporary: str, size: int) -> None:
    if not place.directory.is_writable("."):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place.directory.path)
    if size > place.directory.free_bytes():
        raise insufficient_space(place.directory.path, size)
    with locked(place, temporary, create=True) as descriptor:
        os.ftruncate(descriptor, size)


def _write_hashed(descriptor: int, block: bytes, offset: int, digest: hashlib._Hash) -> None:
    digest.update(block)
    write_all(descriptor, block, offset)
