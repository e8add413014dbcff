"""Errors of all hosts, with the texts that FirecREST's clients match."""

from __future__ import annotations

import errno

from crestline.gateway.hosts.streams import is_crc32
from crestline.gateway.paths import printable
from crestline.model import (
    ConflictError,
    CrestlineError,
    FileMissingError,
    InvalidRequestError,
    PermissionDeniedError,
    TooLargeError,
    TransferError,
)

BY_ERRNO: dict[int, type[CrestlineError]] = {
    errno.ENOENT: FileMissingError,
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: PermissionDeniedError,
    errno.EBUSY: ConflictError,
    errno.ETXTBSY: ConflictError,
    errno.ENOSPC: TooLargeError,
    errno.EDQUOT: TooLargeError,
    errno.EFBIG: TooLargeError,
    errno.EIO: CrestlineError,
    errno.EMFILE: CrestlineError,
    errno.ENFILE: CrestlineError,
    errno.ENOMEM: CrestlineError,
}
"""Errors for errno values of the operating system. All except failures of the machine itself become 4xx."""


def check_sum(actual: str, expected: str) -> None:
    """Compare two checksums.

    Raises:
        TransferError: the checksums differ.
    """
    if actual != expected.lower():
        kind = "CRC-32" if is_crc32(expected) else "SHA-256"
        raise TransferError(
            f"The content's {kind} is {actual}, not {expected}.", hint="Send it again: it changed on the way."
        )


def upload_is_busy() -> ConflictError:
    """Return the error for an upload that another request is writing."""
    return ConflictError("Another request works on this upload.", hint="Try again when it has ended.")


def offset_mismatch(stored: int, offset: int) -> ConflictError:
    """Return the error for a part whose offset is not the end of the upload."""
    return ConflictError(f"The upload stands at {stored}, not at {offset}.", hint="Go on from where it stands.")


FULL_DISK = "The disk of the system is full, or your quota of it. Make room there, then repeat."
"""Hint for a system that cannot store more."""


def disk_full(command: str, path: str, reason: str) -> TooLargeError:
    """Return the error for a full file system at `path`; `reason` is the operating system's message."""
    where = f" '{printable(path)}'" if path else ""
    return TooLargeError(f"{command}:{where} {reason}", hint=FULL_DISK)


def insufficient_space(directory: str, size: int) -> TooLargeError:
    """Return the error for a file system with less than `size` bytes of free space."""
    return TooLargeError(f"'{printable(directory)}': No space left on device for {size} bytes.", hint=FULL_DISK)


def too_many_entries(limit: int) -> TooLargeError:
    """Return the error for a request that concerns more than `limit` files and directories."""
    return TooLargeError(
        f"There are more than {limit} files and directories.",
        hint="Take its directories one by one, or ask the operator to raise `archives.members` of this system.",
    )


def unpacks_to_too_much(what: str) -> TooLargeError:
    """Return the error for an archive that exceeds a limit of the system."""
    return TooLargeError(
        f"tar: The archive has {what}.", hint="Split it, or ask the operator to raise `archives` of this system."
    )


def not_regular(path: str) -> InvalidRequestError:
    """Return the error for a device, pipe or socket in place of a file."""
    return InvalidRequestError(
        f"'{printable(path)}': Not a regular file", hint="Only regular files have content to read or write."
    )


def wrong_length(written: int, length: int) -> InvalidRequestError:
    """Return the error for a part with more or fewer bytes than declared."""
    if written > length:
        return InvalidRequestError(f"More than the {length} bytes of this part came.")
    return InvalidRequestError(f"Only {written} of the {length} bytes of this part came.")
