"""From an answer that is not the one expected to an error of the model, by status and text."""

from __future__ import annotations

import re
from datetime import datetime

import httpx
import msgspec

from crestline.bounded import decode
from crestline.client.backends.answers import MAX_RETRY_AFTER, is_refusal, refused, retry_after
from crestline.client.backends.messages import NotSentError
from crestline.model import (
    AuthenticationError,
    ConflictError,
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    JobNotFoundError,
    MaintenanceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    SystemNotFoundError,
    TooLargeError,
    UnsupportedError,
)
from crestline.model.text import abbreviated, printable
from crestline.wire.errors import ErrorBody

# Texts of FirecREST itself that are said before any command runs on the system.
_NOT_BEGUN = re.compile(
    r"Unable to open a new SSH channel|SSH connection pool capacity exceeded|SSH connection timeout limit exceeded"
    r"|SSH keys generation timeout|service for the requested system .*is unhealthy|requested filesystem .*is unhealthy"
)
_LIST_FAILED = "Error executing Slurm command."
"""Said without a cause where FirecREST could not read what Slurm's commands printed."""
_SECRET = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]+)?|(?<=\?)\S*(?:[Ss]ignature|token|X-Amz-)\S*")
_LONGEST = 400

_WRAPPING = re.compile(
    r"Remote process failed with exit status:\d+ and error message: ?"
    r"|Unexpected Slurm command response\. exit_status:\d+ std_err: ?"
)
"""FirecREST's words around those of the program that failed"""
_SENTENCES = {
    "No such file or directory": "{path} does not exist on the system.",
    "Permission denied": "The system denies access to {path}.",
    "Operation not permitted": "The system denies this change of {path}.",
    "File exists": "{path} exists already.",
    "Is a directory": "{path} is a directory.",
    "Not a directory": "A part of {path} is not a directory.",
    "File name too long": "The name of {path} is too long for the system.",
    "Too many levels of symbolic links": "The symbolic links of {path} lead to each other.",
    "No space left on device": "The file system of {path} is full.",
    "Disk quota exceeded": "The quota of the file system of {path} is used up.",
    "Read-only file system": "The file system of {path} is read-only.",
}
"""what the reasons of a system call (strerror(3)) mean for the path of a request"""
_OF_ONE_PATH = re.compile(  # not of tar, which goes on after it
    r"(?P<program>bash: line \d+|(?!tar\b)\w+): (?P<doing>[a-z ]*?)'?(?P<path>/[^']*?|)'?(?: for reading)?: "
    rf"(?P<reason>{'|'.join(_SENTENCES)})( \d+\+\d+ records in .*)?"
)


def error_from_response(response: httpx.Response) -> CrestlineError:
    """The error that an answer means. `status` of the result is the answer's own."""
    body = _read(response)
    error = _classify(response, body)
    error.status = response.status_code
    if error.retry_after is not None:  # that of a maintenance is the time until its end
        error.retry_after = min(error.retry_after, MAX_RETRY_AFTER)
    return error


def _read(response: httpx.Response) -> ErrorBody:
    try:
        body = decode(response.content, ErrorBody)
    except msgspec.DecodeError:
        return ErrorBody(message="")
    fields = (body.data or {}).get("fields")
    if body.error_type == "validation" and isinstance(fields, list):
        named = [f"{field.get('name')}: {field.get('message')}" for field in fields if isinstance(field, dict)]
        body.message = "; ".join(named) or body.message
    body.message = _clean(body.message)
    body.caused_by = [_clean(cause) for cause in body.caused_by or []]
    return body


def _clean(text: str) -> str:
    return abbreviated(printable(_SECRET.sub("…", " ".join(text.split()))), _LONGEST)


def _classify(response: httpx.Response, body: ErrorBody) -> CrestlineError:
    status = response.status_code
    details = tuple(body.caused_by or ())
    said = " ".join((body.message, *details))
    message = body.message or f"The gateway answered {status}."
    told = next((cause for cause in reversed(details) if cause != _LIST_FAILED), message)
    stripped = _WRAPPING.sub("", told if message == _LIST_FAILED else message)
    one_path = _OF_ONE_PATH.fullmatch(stripped)
    plain = _sentence(one_path) if one_path else stripped
    if plain and plain != message:
        details, message = (message, *details), plain
    if status in (502, 504) and not body.message:
        message = f"A proxy answered {status} in place of the gateway, which it does not reach."

    if status == 503 and body.data and body.data.get("reason") == "maintenance":
        return MaintenanceError(*_announcement(message, body.data))
    if status == 400 and "File exists" in said:
        return ConflictError(message, hint="Choose another name, or remove what is there.", details=details)
    if status == 401:
        if "system access" in said:
            return PermissionDeniedError(message, hint="Ask the site for access to this system.", details=details)
        return AuthenticationError(message, hint="Check the credentials of the site.", details=details)
    if status == 403:
        return PermissionDeniedError(message, hint="The identity in use may not do this.", details=details)
    if status == 404:
        return _not_found(message, said, details)
    if status == 409:
        return ConflictError(message, details=details)
    if status == 413:
        return TooLargeError(message, details=details)
    if status == 429:
        return RateLimitedError(
            "The gateway asks for fewer requests.",
            hint="Wait before the next one.",
            details=details,
            retry_after=retry_after(response),
        )
    if status == 501:
        return UnsupportedError(message, hint="This gateway or its scheduler cannot do it.", details=details)
    if status == 500 and (refusal := _refusal(message, said, details)):
        return refusal
    if status == 500 and one_path:
        return refused(message, details=details)
    if status == 500 and message == _LIST_FAILED and not details:
        hint = (
            "Try again later. If this goes on: a job whose name contains '|' or a line break breaks every list with it."
        )
        return GatewayUnavailableError(f"The gateway answered 500: {message}", hint=hint)
    if status in (408, 424) or status >= 500 or status < 400:
        kind = NotSentError if _NOT_BEGUN.search(said) else GatewayUnavailableError
        return kind(
            f"The gateway answered {status}: {message}" if body.message else message,
            hint="Try again later.",
            details=details,
            retry_after=retry_after(response),
        )
    return refused(message, details=details)


def _sentence(failure: re.Match[str]) -> str:
    path, reason = failure["path"] or "This", failure["reason"]
    if reason == "No such file or directory" and re.search("bash|creat", failure["program"] + failure["doing"]):
        return f"The directory that {path} shall be in does not exist on the system."
    return _SENTENCES[reason].format(path=path)


def _announcement(message: str, data: dict[str, object]) -> tuple[str, str, datetime | None]:
    """System, reason and end of a maintenance, as a Crestline gateway announces it."""
    what, found, _ = message.partition(" is in maintenance")
    try:
        end = datetime.fromisoformat(str(data.get("end")))
    except ValueError:
        end = None
    if end is not None and end.tzinfo is None:
        end = None
    return what if found else "The gateway", _clean(str(data.get("message") or message)), end


def _not_found(message: str, said: str, details: tuple[str, ...]) -> NotFoundError:
    if "Job not found" in said:
        return JobNotFoundError(message, hint="Check the job id; old jobs are forgotten.", details=details)
    if "System not found" in said:
        return SystemNotFoundError(message, hint="`crestline systems` lists those that are there.", details=details)
    if "No such file or directory" in said:
        return FileMissingError(message, hint="Check the path.", details=details)
    return NotFoundError(message, hint="Check the URL of the gateway.", details=details)


def _refusal(message: str, said: str, details: tuple[str, ...]) -> CrestlineError | None:
    """What FirecREST should have answered instead of 500; None where 500 was right."""
    if "Invalid job id" in said or "Bad job/step" in said:
        return JobNotFoundError(message, hint="Check the job id.", details=details)
    if "No SSH credentials" in said or re.search(r"permission denied|not permitted|Invalid user", said, re.IGNORECASE):
        return PermissionDeniedError(message, hint="The identity in use may not do this.", details=details)
    if is_refusal(said):
        return refused(message, "The scheduler refused it: correct the job.", details)
    return None
