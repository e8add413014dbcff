"""Files on this machine: read in chunks, hashed, written whole or not at all, and their errors as ours."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from anyio.to_thread import run_sync

from crestline.model import (
    ConflictError,
    CrestlineError,
    FileMissingError,
    PermissionDeniedError,
    TransferError,
)
from crestline.model.crc32 import Crc32
from crestline.model.directories import missing_directory

_T = TypeVar("_T")

CHUNK = 1024 * 1024
"""bytes that are in memory at once"""


@contextmanager
def local_errors() -> Iterator[None]:
    """Turn what this machine's file system refuses into errors of `crestline.model`."""
    try:
        yield
    except FileNotFoundError as error:
        parent = os.path.dirname(os.path.abspath(os.fsdecode(error.filename or "")))
        if error.filename and not os.path.exists(parent):
            message, hint = missing_directory(parent, here=True)
            raise FileMissingError(message, hint=hint) from error
        raise FileMissingError(f"{error.filename} does not exist on this machine.") from error
    except PermissionError as error:
        raise PermissionDeniedError(
            f"{error.filename} cannot be used on this machine: {error.strerror}.", hint="Check its permissions."
        ) from error
    except OSError as error:
        hint = "Free some space." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise TransferError(f"{error.filename or 'A file'} on this machine: {error.strerror}.", hint=hint) from error


async def sha256(path: Path) -> str:
    """Return the SHA-256 of a local file, in hexadecimal digits."""
    return await run_sync(_sha256, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class IncrementalChecksum:
    """The checksum of a file that is read or written in order: what has passed by need not be read again for it."""

    def __init__(self, digest: Crc32 | hashlib._Hash) -> None:
        self._digest = digest
        self._known = 0
        """bytes from the start on"""

    def add(self, at: int, chunk: bytes) -> None:
        """Take note of the bytes at an offset."""
        if at == self._known:
            self._digest.update(chunk)
            self._known += len(chunk)

    async def of(self, path: Path) -> str:
        """In hexadecimal, of the whole file; what did not pass by is read now."""
        return await run_sync(self._complete, path)

    def _complete(self, path: Path) -> str:
        with path.open("rb") as file:
            file.seek(self._known)
            while chunk := file.read(CHUNK):
                self.add(self._known, chunk)
        return self._digest.hexdigest()


async def read_chunks(
    path: Path, start: int, end: int, total: IncrementalChecksum | None = None
) -> AsyncIterator[bytes]:
    """The bytes from `start` to before `end`.

    Args:
        total: takes note of them.

    Raises:
        TransferError: the file has become shorter.
    """

    def read(at: int) -> bytes:
        chunk = file.read(min(CHUNK, end - at))
        if total is not None:
            total.add(at, chunk)
        return chunk

    with await run_sync(path.open, "rb") as file, ThreadPoolExecutor(1) as thread:
        file.seek(start)
        reading = thread.submit(read, start)
        while start < end:
            chunk = await _done(reading)
            if not chunk:
                raise changed_error(path)
            start += len(chunk)
            if start < end:
                reading = thread.submit(read, start)  # while this one is sent
            yield chunk


async def _done(work: Future[_T]) -> _T:
    """The outcome of a call in a thread, which is carried out in any case."""
    return await asyncio.shield(asyncio.wrap_future(work))


def changed_error(path: Path) -> CrestlineError:
    """Return the error for a local file that was changed while it was sent."""
    return TransferError(f"{path} changed while it was being read.", hint="Send it again when it is complete.")


def make_executable(path: Path) -> None:
    """`chmod +x` for all who may read."""
    mode = path.stat().st_mode & 0o777
    path.chmod(mode | (mode & 0o444) >> 2)


class PartFile:
    """The unfinished form of a download, beside its target; survives a failure, so that the next call can resume.

    Only one process writes to it at a time.
    """

    def __init__(self, target: Path, identity: str) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name[:50]}.{identity[:16]}.part")
        self._file: BinaryIO
        self._sum = IncrementalChecksum(hashlib.sha256())

    def __enter__(self) -> PartFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._file = open(os.open(self.path, flags, 0o666), "r+b")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise ConflictError(
                    f"{self.target} is being downloaded already.", hint="Wait for the other download."
                ) from None
            if self._is_in_place():
                return self
            self._file.close()  # another download has published it between the two calls

    def __exit__(self, *_: object) -> None:
        if self.size == 0 and self._is_in_place():
            self.path.unlink()
        self._file.close()

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def truncate(self) -> None:
        """Empty the file, to start the download again."""
        self._file.truncate(0)
        self._sum = IncrementalChecksum(hashlib.sha256())

    async def append(self, content: AsyncIterator[bytes]) -> AsyncIterator[int]:
        """Write behind what is there; yields how many bytes were written. What came before an error is kept."""
        held: list[bytes] = []
        size = 0
        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(self._write, [])
            try:
                async for chunk in content:
                    held.append(chunk)
                    size += len(chunk)
                    if size >= CHUNK:
                        written = await _done(writing)
                        writing, held, size = thread.submit(self._write, held), [], 0  # while more is received
                        yield written
            finally:
                rest = self._write(held) if writing.exception() is None else 0
        yield writing.result() + rest

    def _write(self, chunks: list[bytes]) -> int:
        at = begin = self._file.seek(0, os.SEEK_END)
        for chunk in chunks:
            self._file.write(chunk)
            self._sum.add(at, chunk)
            at += len(chunk)
        self._file.flush()
        return at - begin

    async def checksum(self) -> str:
        """Hexadecimal SHA-256 of what is there."""
        return await self._sum.of(self.path)

    def publish(self, *, executable: bool) -> None:
        """Give the complete file its final name."""
        if executable:
            make_executable(self.path)
        self.path.replace(self.target)
