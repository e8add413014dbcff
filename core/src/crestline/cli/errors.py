"""What a failure looks like: one line on stderr with a hint, and an exit code.

| code | meaning |
|---|---|
| 0 | done |
| 1 | a failure that no other code names |
| 2 | the command line cannot be understood |
| 65 | the request cannot be carried out as it is (wrong, in conflict, too large, not supported there) |
| 66 | a job, a system or a file does not exist |
| 69 | the gateway gives no usable answer, or no site can take the job |
| 74 | a file did not arrive whole, or this machine's disk failed |
| 75 | a limit of time or of requests; trying again later may help |
| 77 | not authenticated, or not permitted |
| 78 | the configuration cannot be used |
| 130 | interrupted by Ctrl-C |

They are those of sysexits(3). `run`, `wait` and `submit --wait` exit with the job's own code, 124 at its time
limit, 128 + n where signal n ended it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from typer import TyperException

from crestline.cli.output import one_line
from crestline.model import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    NoEligibleSiteError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    TooLargeError,
    TransferError,
    UnsupportedError,
    WaitTimeoutError,
)

USAGE = 2
INTERRUPTED = 130

_CODES: tuple[tuple[type[Exception], int], ...] = (
    (InvalidRequestError, 65),
    (ConflictError, 65),
    (TooLargeError, 65),
    (UnsupportedError, 65),
    (NotFoundError, 66),
    (FileNotFoundError, 66),
    (GatewayUnavailableError, 69),
    (NoEligibleSiteError, 69),
    (TransferError, 74),
    (WaitTimeoutError, 75),
    (RateLimitedError, 75),
    (AuthenticationError, 77),
    (PermissionDeniedError, 77),
    (PermissionError, 77),
    (OSError, 74),
    (ConfigError, 78),
)


class UsageError(TyperException):
    """The options contradict each other, or an argument has the wrong form."""

    exit_code = USAGE


def exit_code(error: Exception) -> int:
    """The code for an error; the table above."""
    if isinstance(error, TyperException):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def report(error: CrestlineError | OSError | TyperException, *, as_json: bool) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    message, hint, details = _describe(error)
    code = exit_code(error)
    if as_json:
        said: dict[str, Any] = {"type": type(error).__name__, "message": message, "hint": hint}
        line = json.dumps({"error": {**said, "details": details, "exit_code": code}})
    else:
        line = one_line(f"crestline: {message} {hint}".rstrip())
    print(line, file=sys.stderr)
    return code


def _describe(error: CrestlineError | OSError | TyperException) -> tuple[str, str, list[str]]:
    if isinstance(error, CrestlineError):
        return error.message, error.hint, list(error.details)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}.", "", []
    context = getattr(error, "ctx", None)
    hint = f"Try: {context.command_path} --help" if context is not None else ""
    return error.format_message(), hint, []
