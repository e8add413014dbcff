"""Files that only their owner may read or change, and locks between the processes of one machine."""

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
    """Whether users other than this process's and root may write to a file, or change the entries of a directory.

    The group of this user alone does not count, as many systems give each user one (umask 002).
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid)


def read_config(file: Path) -> str:
    """The text of a configuration file that says where credentials go, and which commands run.

    Raises:
        ConfigError: others may write to it.
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
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
    """Log once that other users may read a secret.

    A mount of Kubernetes (a link by way of `..data`) or `/run/secrets` belongs to its container, whatever its mode.
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
    """Whether it is the group of this process's user alone, as many systems give each user one (umask 002)."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}


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
