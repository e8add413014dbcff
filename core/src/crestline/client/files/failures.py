"""What of a directory or a pattern did not arrive, while all the rest did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from crestline.client.files.local import local_errors
from crestline.model import (
    ConflictError,
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
    TooLargeError,
    TransferError,
    UnsupportedError,
)

REFUSED = (InvalidRequestError, FileMissingError, PermissionDeniedError)
"""what a gateway says of a request because of one of the files in it"""

_OF_ONE = (
    ConflictError,
    InvalidRequestError,
    JobNotFoundError,
    FileMissingError,
    PermissionDeniedError,
    TooLargeError,
    TransferError,
    UnsupportedError,
)
_NAMED = 20
"""so many are named in the message; `details` has all"""


class Failures:
    """Collects the errors of single files, so that one of them does not keep the others from travelling."""

    def __init__(self) -> None:
        self.errors: dict[str, CrestlineError] = {}

    @contextmanager
    def collect(self, name: str) -> Iterator[None]:
        """Keep an error that concerns the file `name` alone; any other is raised."""
        try:
            with local_errors():
                yield
        except CrestlineError as error:
            if not concerns_one(error):
                raise
            self.errors[name] = error

    def task(self, name: str, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """`work` with its error collected."""

        async def run() -> None:
            with self.collect(name):
                await work()

        return partial(run)

    def raise_any(self, what: str) -> None:
        """Say which files are missing.

        Args:
            what: the directory or pattern they belong to.

        Raises:
            TransferError: there is at least one; `details` names each with its reason.
        """
        if not self.errors:
            return
        names = sorted(self.errors)
        if len(names) == 1:
            error = self.errors[names[0]]
            raise TransferError(
                f"{names[0]!r} of {what} did not travel, all else did: {error.message}", hint=error.hint
            ) from error
        listed = ", ".join(repr(name) for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        first = self.errors[names[0]]
        raise TransferError(
            f"{len(names)} entries of {what} did not travel, all else did: {listed}. The first: {first.message}",
            hint=first.hint,
            details=tuple(f"{name}: {self.errors[name].message}" for name in names),
        ) from first


def concerns_one(error: CrestlineError) -> bool:
    """Whether an error concerns one file or job alone, so that others may do.

    FirecREST answers 500 and 408 for a command that failed, whatever the reason.
    """
    if isinstance(error, GatewayUnavailableError):
        return error.status in (408, 500)
    return isinstance(error, _OF_ONE)
