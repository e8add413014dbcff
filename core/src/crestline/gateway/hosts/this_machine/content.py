"""Reading files, and writing them so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from anyio.from_thread import check_cancelled

from crestline.gateway.hosts.base import OpenFile
from crestline.gateway.hosts.refusals import check_sum, not_regular, upload_is_busy
from crestline.gateway.hosts.streams import BLOCK, digest_of, temporary_of
from crestline.gateway.hosts.this_machine.workers import Workers
from crestline.gateway.paths import PathGuard
from crestline.model import InvalidRequestError, TransferError


class LocalFile(OpenFile):
    """An open file of this machine, read in worker threads."""

    def __init__(self, descriptor: int, workers: Workers) -> None:
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.etag = f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
        self.modified = status.st_mtime
        self._descriptor = descriptor
        self._workers = workers

    async def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        end = None if length is None else offset + length
        while end is None or offset < end:
            size = BLOCK if end is None else min(BLOCK, end - offset)
            block = await self._workers.quick("read", os.pread, self._descriptor, size, offset)
            if not block:
                return
            yield block
            offset += len(block)

    async def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:  # an answer that nobody began to read
            os.close(self._descriptor)


def open_regular(guard: PathGuard, path: str) -> int:
    """A descriptor of the regular file that `path` leads to."""
    real = guard.follow(path)
    # O_NONBLOCK: opening a named pipe must not wait for its writer.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _not_regular(mode, real)


def target_of(guard: PathGuard, path: str) -> str:
    """Where a file named `path` is to be written: its directory exists, and nothing but a writable file is there."""
    real = guard.follow(path)
    check_target(real)
    return real


def check_target(real: str) -> None:
    """Raise what keeps a file from being written at a path without links."""
    try:
        status = os.stat(real)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(real)):
            raise
        return
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(status.st_mode, real)
    if not os.access(real, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), real)


@contextmanager
def replacing(target: str, identifier: str, mode: int | None = None) -> Iterator[int]:
    """A descriptor of a new temporary file that becomes `target` at the end, or vanishes on an error."""
    temporary = temporary_of(target, identifier)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
        publish(descriptor, temporary, target, mode)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def publish(descriptor: int, temporary: str, target: str, mode: int | None = None) -> None:
    """Rename a written file to its name, with the permissions of the file it replaces, or `mode`, or the usual."""
    if mode is None:
        try:
            mode = stat.S_IMODE(os.stat(target).st_mode)
        except FileNotFoundError:
            mode = 0o666 & ~_UMASK
    os.fchmod(descriptor, mode)
    os.rename(temporary, target)


@contextmanager
def locked(temporary: str, *, create: bool = False, shared: bool = False) -> Iterator[int]:
    """A descriptor of an unfinished upload, which nobody else writes (or, `shared`, nobody finishes) meanwhile.

    Raises:
        ConflictError: somebody does.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise upload_is_busy() from error
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, block: bytes, offset: int) -> None:
    """pwrite(2) until everything is written."""
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def finish(temporary: str, target: str, checksum: str | None) -> None:
    """Check a whole upload and give it its name."""
    with locked(temporary) as descriptor:
        if checksum is not None:
            try:
                digest = digest_of(checksum)
                for block in blocks_of(descriptor):
                    digest.update(block)
                check_sum(digest.hexdigest(), checksum)
            except TransferError:
                os.unlink(temporary)
                raise
        publish(descriptor, temporary, target)


def sha256_of(descriptor: int) -> str:
    """Hexadecimal SHA-256 of an open file."""
    digest = hashlib.sha256()
    for block in blocks_of(descriptor):
        digest.update(block)
    return digest.hexdigest()


def blocks_of(descriptor: int) -> Iterator[bytes]:
    """The content of an open file; stops where the task that waits for the thread is cancelled."""
    offset = 0
    while block := os.pread(descriptor, BLOCK, offset):
        check_cancelled()
        yield block
        offset += len(block)


def _not_regular(mode: int, path: str) -> OSError | InvalidRequestError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return not_regular(path)


def _read_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


_UMASK = _read_umask()
