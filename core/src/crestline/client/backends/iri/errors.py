"""From an answer or a failed task to an error of the model, by status and text."""

from __future__ import annotations

import re

import httpx
import msgspec

from crestline.bounded import decode
from crestline.client.backends.answers import is_refusal, refused, retry_after
from crestline.model import (
    AuthenticationError,
    ConflictError,
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    TooLargeError,
    UnsupportedError,
)
from crestline.model.text import abbreviated, printable
from crestline.wire.iri import Problem

_SECRET = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]+)?|(?i:bearer)\s+\S+")
_LONGEST = 400

_TASK_ERRORS: tuple[tuple[str, type[CrestlineError]], ...] = (
    (r"no such file|does not exist|not found|FileNotFound", FileMissingError),
    (r"permission denied|not permitted|access denied|forbidden", PermissionDeniedError),
    (r"file exists|already exists|not empty", ConflictError),
    (r"too large|exceeds|size limit|maximum .*size", TooLargeError),
    (r"not (yet )?(implemented|supported|available)|unsupported|\b501\b", UnsupportedError),
    (r"timed? ?out|temporarily|unavailable|try again|connection (reset|refused)", GatewayUnavailableError),
)


def error_from_response(response: httpx.Response) -> CrestlineError:
    """The error that an answer means; its `status` is the answer's own."""
    error = _classify(response)
    error.status = response.status_code
    return error


def error_from_task(text: str, operation: str, path: str) -> CrestlineError:
    """The error that a failed task means. The API has no codes for them, so that the text decides."""
    words = text.replace(path, "")
    text = _clean(text).removeprefix("Error: ")
    message = f"{operation} of {path} failed: {text or 'the facility gives no reason'}"
    for pattern, kind in _TASK_ERRORS:
        if re.search(pattern, words, re.IGNORECASE):
            return kind(message)
    return InvalidRequestError(message)


def _classify(response: httpx.Response) -> CrestlineError:
    status = response.status_code
    message = _message(response)
    if status in (400, 422):
        return refused(message, "Correct the request.")
    if status == 401:
        return AuthenticationError(
            message, hint="Renew the token of the site. Facilities also refuse tokens whose login is too old."
        )
    if status == 403 or (status == 404 and "user not found" in message.lower()):
        return PermissionDeniedError(message, hint="Ask the facility for access with this identity.")
    if status == 404:
        return NotFoundError(message, hint="Check the URL of the API and the name of the resource.")
    if status == 409:
        return ConflictError(message)
    if status == 413:
        return TooLargeError(message)
    if status == 429:
        return RateLimitedError(
            "The facility asks for fewer requests.",
            hint="Wait before the next one.",
            retry_after=retry_after(response),
        )
    if status in (405, 501):
        return UnsupportedError(f"The facility does not offer this: {message}", hint="See `Use a DOE facility`.")
    if status == 500 and is_refusal(message):
        return refused(message, "The scheduler refused it: correct the job.")
    if status in (408, 424) or status >= 500 or status < 400:
        return GatewayUnavailableError(
            f"The facility answered {status}: {message}", hint="Try again later.", retry_after=retry_after(response)
        )
    return InvalidRequestError(message)


def _message(response: httpx.Response) -> str:
    try:
        problem = decode(response.content, Problem)
    except msgspec.DecodeError:
        return f"{response.status_code} {httpx.codes.get_reason_phrase(response.status_code)}".strip()
    parts = [f"{each.get('name')}: {each.get('reason')}" for each in problem.invalid_params or []]
    said = problem.detail if isinstance(problem.detail, str) else ""
    return _clean("; ".join(part for part in (said or problem.title or "", *parts) if part)) or str(
        response.status_code
    )


def _clean(text: str) -> str:
    return abbreviated(printable(_SECRET.sub("…", " ".join(text.split()))), _LONGEST)
