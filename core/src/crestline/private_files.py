"""Files that only their owner can read or change, and locks between processes on one machine."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from crestline.model import ConfigError

logger = logging.getLogger(__name__)


def others_may_write(status: os.stat_result) -> bool:
    """Whether users other than root and the current one can write to a file, or change the entries of a directory.

    Write permission for the user's private group is accepted: many systems give each user a group of their own (umask
    002).
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid)


def read_config(file: Path) -> str:
    """Return the text of a configuration file that controls where credentials are sent and which commands run.

    Raises:
        ConfigError: other users can write to the file.
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    with file.open(encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        if others_may_write(status):
            raise ConfigError(
                f"Others may write to {file} (mode {stat.S_IMODE(status.st_mode):o}).", hint=f"Run: chmod go-w {file}"
            )
        return stream.read()


@cache
def warn_if_open(file: Path) -> None:
    """Log a warning, once per file, if other users can read a secret.

    Kubernetes mounts (links through `..data`) and `/run/secrets` belong to their container, so their mode is ignored.
    """
    real = Path(os.path.realpath(file))
    if real.is_relative_to("/run/secrets") or any(part.startswith("..") for part in real.parts):
        return
    try:
        mode = stat.S_IMODE(real.stat().st_mode)
    except OSError:
        return
    if mode & stat.S_IROTH:
        logger.warning("Other users may read the secret in %s (mode %o). Run: chmod 600 %s", file, mode, file)


def _is_private_group(gid: int) -> bool:
    """Whether this group belongs only to the current user, as on systems that create one for each user (umask 002)."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}


def write_private(file: Path, content: bytes) -> None:
    """Replace a file atomically with one of mode 0600, and sync it to disk. A symbolic link is replaced.

    Raises:
        OSError: the file cannot be written. The previous file is unchanged.
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
    """Hold an exclusive lock on `file`. Missing files and parent directories are created.

    Blocks until other holders, including those in this process, have released the lock. The kernel releases it when its
    holder dies. A holder may delete the file: the next one creates it again.

    Raises:
        OSError: the file cannot be created.
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
