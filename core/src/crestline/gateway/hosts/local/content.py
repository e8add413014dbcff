"""Reads files, and writes them so that readers never see an incomplete file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from crestline.gateway.hosts.base import OpenFile
from crestline.gateway.hosts.local.beneath import Directory, Place, ServedTrees
from crestline.gateway.hosts.local.workers import Workers
from crestline.gateway.hosts.refusals import check_sum, not_regular, upload_is_busy
from crestline.gateway.hosts.streams import BLOCK, digest_of, temporary_of
from crestline.gateway.hosts.threads import check_cancelled
from crestline.model import InvalidRequestError, TransferError

_NAMELESS: int = getattr(os, "O_TMPFILE", 0)


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
        if self._descriptor >= 0:  # no client began to read the response
            os.close(self._descriptor)


def open_regular(directory: Directory, name: str) -> int:
    """Open a regular file for reading and return its descriptor."""
    # O_NONBLOCK: opening a named pipe must not wait for a writer.
    descriptor = directory.open(name, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _not_regular(mode, directory.path_of(name))


def open_path(trees: ServedTrees, path: str) -> int:
    """Open the regular file at `path` and return its descriptor."""
    with trees.locate(path, follow=True) as place:
        return open_regular(place.directory, place.name)


def check_target(place: Place) -> None:
    """Raise an error if a file cannot be written at this place."""
    try:
        status = place.directory.lstat(place.name)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(status.st_mode, place.path)
    if not place.directory.is_writable(place.name):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place.path)


def open_target(trees: ServedTrees, path: str) -> Place:
    """Resolve the path of a file to write. The caller closes the directory."""
    place = trees.open_parent(path, follow=True)
    try:
        check_target(place)
    except BaseException:
        place.directory.close()
        raise
    return place


def create(place: Place, name: str | None = None) -> tuple[int, str | None]:
    """Create a file beside `place` and return its descriptor and its name, which is `name` or a random one.

    If the file system supports it, the file has no name, so that it disappears if the gateway dies.
    """
    if _NAMELESS and os.path.isdir("/proc/self/fd"):
        try:
            return place.directory.open(".", os.O_RDWR | _NAMELESS), None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    temporary = name or temporary_of(place.name, uuid.uuid4().hex)
    return place.directory.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL), temporary


@contextmanager
def replacing(place: Place, name: str, mode: int | None = None) -> Iterator[int]:
    """Create a temporary file that replaces `place` at the end, or is removed after an error; yields its descriptor.

    Args:
        place: the file to replace.
        name: name of the temporary file if it needs one, the same for a whole operation.
        mode: permissions of the new file; None: those of the replaced file, or the default.
    """
    descriptor, temporary = create(place, name)
    try:
        yield descriptor
        publish(descriptor, temporary, place, mode, name)
    except BaseException:
        if temporary is not None:
            place.directory.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def publish(
    descriptor: int, temporary: str | None, place: Place, mode: int | None = None, name: str | None = None
) -> None:
    """Rename a written file to its final name, with `mode`, the permissions of the replaced file, or the default."""
    if mode is None:
        try:
            mode = stat.S_IMODE(place.directory.lstat(place.name).st_mode)
        except FileNotFoundError:
            mode = 0o666 & ~_UMASK
    os.fchmod(descriptor, mode)
    if temporary is None:
        temporary = name or temporary_of(place.name, uuid.uuid4().hex)
        place.directory.link_descriptor(descriptor, temporary)
        try:
            place.directory.rename(temporary, place.directory, place.name)
        except BaseException:
            place.directory.unlink(temporary)
            raise
        return
    place.directory.rename(temporary, place.directory, place.name)


@contextmanager
def locked(place: Place, temporary: str, *, create: bool = False, shared: bool = False) -> Iterator[int]:
    """Lock an unfinished upload so that no other request writes it (or, `shared`, finishes it); yields its descriptor.

    Raises:
        ConflictError: another request holds the lock.
    """
    descriptor = place.directory.open(temporary, os.O_RDWR | (os.O_CREAT if create else 0))
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise upload_is_busy() from error
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, block: bytes, offset: int) -> None:
    """Call pwrite(2) until everything is written."""
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def finish(place: Place, temporary: str, checksum: str | None) -> None:
    """Check a complete upload and rename it to its final name."""
    with locked(place, temporary) as descriptor:
        if checksum is not None:
            try:
                digest = digest_of(checksum)
                for block in blocks_of(descriptor):
                    digest.update(block)
                check_sum(digest.hexdigest(), checksum)
            except TransferError:
                place.directory.unlink(temporary)
                raise
        publish(descriptor, temporary, place)


def sha256_of(descriptor: int) -> str:
    """Return the hexadecimal SHA-256 of an open file."""
    digest = hashlib.sha256()
    for block in blocks_of(descriptor):
        digest.update(block)
    return digest.hexdigest()


def blocks_of(descriptor: int) -> Iterator[bytes]:
    """Yield the content of an open file. Stop if the task that waits for the thread is cancelled."""
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
