"""One exception tree for both ends of the wire.

Every error says what is wrong and, in `hint`, what to do about it. `status` is the HTTP status that FirecREST v2
uses for the case: the gateway answers with it, the client turns an answer back into the same class.

    CrestlineError
        ConfigError
        InvalidRequestError
            SubmitLimitError
        AuthenticationError
        PermissionDeniedError
        NotFoundError
            SystemNotFoundError
            JobNotFoundError
            FileMissingError
        ConflictError
        TooLargeError
        RateLimitedError
        UnsupportedError
        GatewayUnavailableError
            MaintenanceError
            SubmitOutcomeUnknownError
        NoEligibleSiteError
        TransferError
        WaitTimeoutError
        JobFailedError
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crestline.model.job import Job

# Slurm names the limit of the association or QOS (AssocMaxSubmitJobLimit), PBS writes a sentence.
_SUBMIT_LIMIT = re.compile(
    r"\b(Assoc|QOS)(Max|Grp)SubmitJob"
    r"|would exceed .*\blimit (of|on) .*\bjobs?\b|maximum number of jobs .*\balready in",
    re.IGNORECASE,
)


class CrestlineError(Exception):
    """Base of every error that Crestline raises on purpose.

    Attributes:
        message: what is wrong, one sentence.
        hint: what the caller can do about it, one sentence; may be empty.
        details: the causes underneath, outermost first, as a server or a scheduler worded them.
        retry_after: seconds after which to try again, if the server gave them.
    """

    status = 500
    wire_data: dict[str, str | None] | None = None
    """what a gateway's answer has in `data`, for programs to read"""

    def __init__(
        self, message: str, *, hint: str = "", details: tuple[str, ...] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.retry_after = retry_after

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        stop = "." if self.message[-1:].isalnum() else ""
        return f"{self.message}{stop} {self.hint}"


class ConfigError(CrestlineError):
    """A configuration file, an environment variable or an option cannot be used as it is."""


class InvalidRequestError(CrestlineError):
    """The request itself is wrong: repeating it cannot help."""

    status = 400


class SubmitLimitError(InvalidRequestError):
    """The scheduler takes no further job of this user until one has ended; this one was not submitted."""

    @staticmethod
    def is_meant(text: str) -> bool:
        """Whether a scheduler's refusal names a limit on jobs that are submitted at the same time."""
        return _SUBMIT_LIMIT.search(text) is not None


class AuthenticationError(CrestlineError):
    """No valid credentials: token absent, expired, forged, or the client id or secret refused."""

    status = 401


class PermissionDeniedError(CrestlineError):
    """The identity is known, and may not do this."""

    status = 403


class NotFoundError(CrestlineError):
    """Something named in the request does not exist."""

    status = 404


class SystemNotFoundError(NotFoundError):
    """The gateway has no system of that name."""


class JobNotFoundError(NotFoundError):
    """The scheduler knows no such job (any more)."""


class FileMissingError(NotFoundError):
    """The remote path does not exist."""


class ConflictError(CrestlineError):
    """The request contradicts what is there, for example an idempotency key used with another body."""

    status = 409


class TooLargeError(CrestlineError):
    """More bytes than this operation carries."""

    status = 413


class RateLimitedError(CrestlineError):
    """The gateway, or an API manager before it, asks for fewer requests."""

    status = 429


class UnsupportedError(CrestlineError):
    """This gateway or this scheduler cannot do it at all."""

    status = 501


class GatewayUnavailableError(CrestlineError):
    """No usable answer: connection lost, time limit, 5xx. What was asked may or may not have happened."""

    status = 503


class MaintenanceError(GatewayUnavailableError):
    """The operator has announced a maintenance; nothing of what was asked has happened.

    Attributes:
        end: when it is announced to end, None if that is not known.
    """

    def __init__(self, what: str, reason: str, end: datetime | None = None) -> None:
        until = f" until {end.isoformat(timespec='minutes')}" if end is not None else ""
        left = None if end is None else max(1.0, (end - datetime.now(UTC)).total_seconds())
        super().__init__(f"{what} is in maintenance{until}: {reason}", retry_after=left)
        self.end = end
        self.wire_data = {"reason": "maintenance", "message": reason, "end": end.isoformat() if end else None}


class NoEligibleSiteError(CrestlineError):
    """Of several sites none can take the job, or it is not certain which one has it already.

    Attributes:
        reasons: of each site, as `system@site`, why not.
    """

    status = 503

    def __init__(self, message: str, reasons: Mapping[str, str], *, hint: str = "") -> None:
        details = tuple(f"{target}: {reason}" for target, reason in reasons.items())
        super().__init__(f"{message} {'; '.join(details)}", hint=hint, details=details)
        self.reasons = dict(reasons)


class SubmitOutcomeUnknownError(GatewayUnavailableError):
    """A submission got no usable answer and could not be looked up in time; repeat it with the same key."""


class TransferError(CrestlineError):
    """A file did not arrive whole, or its checksum differs."""


class WaitTimeoutError(CrestlineError):
    """The caller's own time limit for waiting ran out; the job continues."""

    status = 408


class JobFailedError(CrestlineError):
    """A job ended in a state other than completed.

    Attributes:
        job: the job as last seen.
    """

    def __init__(self, message: str, job: Job, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.job = job
