"""Translates errors of commands and SFTP into errors of the model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import asyncssh
from asyncssh.packet import PacketDecodeError

from crestline.gateway.hosts.base import Completed
from crestline.gateway.hosts.refusals import BY_ERRNO, FULL_DISK, disk_full
from crestline.gateway.paths import printable
from crestline.model import (
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
    UnsupportedError,
)

NOT_FOUND = 127
"""Exit status of a shell, and of env(1), for an unknown program."""

_READ = 64 * 1024
"""Bytes of a program's standard error that are searched for the reason."""

_BY_REASON = {os.strerror(number): kind for number, kind in BY_ERRNO.items()}
_SFTP: dict[type[asyncssh.SFTPError], tuple[type[CrestlineError], str]] = {
    asyncssh.SFTPNoSuchFile: (FileMissingError, "No such file or directory"),
    asyncssh.SFTPPermissionDenied: (PermissionDeniedError, "Permission denied"),
}
_FULL: dict[type[asyncssh.SFTPError], str] = {
    asyncssh.SFTPNoSpaceOnFilesystem: "No space left on device",
    asyncssh.SFTPQuotaExceeded: "Disk quota exceeded",
}
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage)


def refusal(command: str, result: Completed) -> CrestlineError:
    """Return the error of a command, with its own message (in the C locale)."""
    if result.exit_status == NOT_FOUND:
        return UnsupportedError(f"{command}: command not found", hint="Ask the site to install it.")
    lines = printable(os.fsdecode(result.stderr[:_READ])).strip().splitlines() or [f"{command}: failed"]
    for line in lines:
        for reason, kind in _BY_REASON.items():
            if reason in line:
                hint = FULL_DISK if reason in _FULL.values() else ""
                return kind(line.replace("find:", "ls: cannot access", 1), hint=hint)
    return InvalidRequestError(lines[0])


@contextmanager
def reading(program: str) -> Iterator[None]:
    """Translate an error in parsing a program's output: a user's login can replace any program."""
    try:
        yield
    except (ValueError, LookupError) as error:
        raise GatewayUnavailableError(
            f"{program}: its answer cannot be read.", hint=f"Is another {program} first in the PATH on the system?"
        ) from error


@contextmanager
def connected(system: str, doing: str) -> Iterator[None]:
    """Translate the loss of a connection, or a time limit, into an error with an unknown outcome."""
    try:
        yield
    except TimeoutError as error:
        raise GatewayUnavailableError(f"{system}: no answer in time to {doing}.", retry_after=1) from error
    except asyncssh.SFTPError as error:
        raise _from_sftp(error, doing, "") from error
    except PacketDecodeError as error:
        raise GatewayUnavailableError(f"{system}: an answer to {doing} cannot be read.", retry_after=1) from error
    except (asyncssh.Error, OSError) as error:
        raise GatewayUnavailableError(f"{system}: the connection was lost during {doing}.", retry_after=1) from error


@contextmanager
def transferring(system: str, doing: str, path: str) -> Iterator[None]:
    """As `connected`, and translate errors of the SFTP server."""
    with connected(system, doing):
        try:
            yield
        except _LOST:
            raise
        except asyncssh.SFTPError as error:
            raise _from_sftp(error, doing, path) from error


def _from_sftp(error: asyncssh.SFTPError, doing: str, path: str) -> CrestlineError:
    if isinstance(error, _LOST):
        return GatewayUnavailableError(f"{doing}: the SFTP session was lost.", retry_after=1)
    if type(error) in _FULL:
        return disk_full(doing, path, _FULL[type(error)])
    kind, reason = _SFTP.get(type(error), (CrestlineError, error.reason))
    return kind(f"{doing}: cannot access '{printable(path)}': {reason}")
