"""Files that only their owner may read, and locks between the processes of one machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_private(file: Path, content: bytes) -> None:
    """Replace a file by one of mode 0600, whole or not at all, and on disk on return. A symbolic link is replaced.

    Raises:
        OSError: the file cannot be written; the earlier one is unchanged.
    """
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of `file`, which is made if it is absent, as is its folder.

    Other holders are waited for, also those of this process.
    The kernel releases the lock when its holder dies. A holder may remove the file: the next one makes it anew.

    Raises:
        OSError: the file cannot be made.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_in_place(file, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is_in_place(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
