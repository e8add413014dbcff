"""The exceptions of client and gateway.

Every error says what is wrong and, in `hint`, what to do about it. `status` is the HTTP status of the class in
FirecREST v2. The gateway answers with it, and the client raises the same class for that status.

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
        details: underlying causes, outermost first, in the words of a server or a scheduler.
        retry_after: seconds to wait before another try; None if the server did not send them.

    >>> str(CrestlineError("The gateway did not answer.", hint="Try again later."))
    'The gateway did not answer. Try again later.'
    """

    status = 500
    wire_data: dict[str, str | None] | None = None
    """content of `data` in a gateway's answer, for programs"""

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
    """A configuration file, an environment variable or an option is invalid."""


class InvalidRequestError(CrestlineError):
    """The request is invalid. A repeat fails in the same way."""

    status = 400


class SubmitLimitError(InvalidRequestError):
    """The user has reached the scheduler's limit on submitted jobs. The job was not submitted."""

    @staticmethod
    def is_meant(text: str) -> bool:
        """Return True if a scheduler's refusal names a limit on the number of submitted jobs."""
        return _SUBMIT_LIMIT.search(text) is not None


class AuthenticationError(CrestlineError):
    """The credentials are invalid: the token is absent, expired or forged, or the client id or secret was refused."""

    status = 401


class PermissionDeniedError(CrestlineError):
    """The user is authenticated but may not do this."""

    status = 403


class NotFoundError(CrestlineError):
    """Something named in the request does not exist."""

    status = 404


class SystemNotFoundError(NotFoundError):
    """The gateway has no system of that name."""


class JobNotFoundError(NotFoundError):
    """The scheduler does not know the job (any more)."""


class FileMissingError(NotFoundError):
    """The remote path does not exist."""


class ConflictError(CrestlineError):
    """The request conflicts with the present state, for example an idempotency key that was used with another body."""

    status = 409


class TooLargeError(CrestlineError):
    """The request or the answer has more bytes than this operation can transfer."""

    status = 413


class RateLimitedError(CrestlineError):
    """The gateway, or an API manager in front of it, limits the rate of requests."""

    status = 429


class UnsupportedError(CrestlineError):
    """This gateway or this scheduler does not support the operation."""

    status = 501


class GatewayUnavailableError(CrestlineError):
    """The gateway gave no usable answer: lost connection, timeout, or 5xx. It may have carried out the request."""

    status = 503


class MaintenanceError(GatewayUnavailableError):
    """The system is in maintenance. The gateway has not carried out any part of the request.

    Attributes:
        end: announced end of the maintenance; None if unknown.
    """

    def __init__(self, what: str, reason: str, end: datetime | None = None) -> None:
        until = f" until {end.isoformat(timespec='minutes')}" if end is not None else ""
        left = None if end is None else max(1.0, (end - datetime.now(UTC)).total_seconds())
        super().__init__(f"{what} is in maintenance{until}: {reason}", retry_after=left)
        self.end = end
        self.wire_data = {"reason": "maintenance", "message": reason, "end": end.isoformat() if end else None}


class NoEligibleSiteError(CrestlineError):
    """No site can run the job, or it is unknown which one already has it.

    Attributes:
        reasons: for each site, as `system@site`, why it was rejected.
    """

    status = 503

    def __init__(self, message: str, reasons: Mapping[str, str], *, hint: str = "") -> None:
        details = tuple(f"{target}: {reason}" for target, reason in reasons.items())
        super().__init__(f"{message} {'; '.join(details)}", hint=hint, details=details)
        self.reasons = dict(reasons)


class SubmitOutcomeUnknownError(GatewayUnavailableError):
    """The outcome of a submission is still unknown after `SubmitPolicy.total_timeout`. Repeat it with the same key."""


class TransferError(CrestlineError):
    """A file arrived incomplete, or its checksum differs."""


class WaitTimeoutError(CrestlineError):
    """The caller's timeout for waiting expired. The job continues."""

    status = 408


class JobFailedError(CrestlineError):
    """A job ended in a state other than completed.

    Attributes:
        job: the job in its final state.
    """

    def __init__(self, message: str, job: Job, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.job = job
