"""Report failures: one line on stderr with a hint, and an exit code.

| code | meaning |
|---|---|
| 0 | success |
| 1 | any other failure |
| 2 | invalid usage |
| 65 | invalid request: malformed, in conflict, too large, or not supported by the site |
| 66 | a job, a system or a file does not exist |
| 69 | the gateway is unavailable, or no site can run the job |
| 74 | a transfer failed, or the disk of this machine |
| 75 | a time limit or rate limit: try again later |
| 77 | not authenticated, or not permitted |
| 78 | invalid configuration |
| 130 | interrupted by Ctrl-C |

The codes follow sysexits(3). `run`, `wait` and `submit --wait` exit with the job's own code, with 124 if the job
reached its time limit, and with 128 + n if signal n ended it.
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
    """The options contradict each other, or an argument is malformed."""

    exit_code = USAGE


def exit_code(error: Exception) -> int:
    """Return the exit code for an error, from the table above."""
    if isinstance(error, TyperException):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def report(error: CrestlineError | OSError | TyperException, *, as_json: bool) -> int:
    """Print an error on stderr and return its exit code."""
    message, hint, details = _describe(error)
    code = exit_code(error)
    if as_json:
        said: dict[str, Any] = {"type": type(error).__name__, "message": message, "hint": hint}
        line = json.dumps({"error": {**said, "details": details, "exit_code": code}})
    else:
        said_plainly = str(error) if isinstance(error, CrestlineError) else f"{message} {hint}".rstrip()
        line = one_line(f"crestline: {said_plainly}")
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
