"""What all facility APIs have in common: text that no request carries, and answers that are absent or unreadable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx

from crestline.clock import time
from crestline.model import CrestlineError, GatewayUnavailableError, InvalidRequestError, SubmitLimitError

# Texts of Slurm and PBS that say the request was wrong, behind FirecREST's 500.
_REFUSED = re.compile(
    r"Batch job submission failed|does not look like a batch script|qsub: "
    r"|sbatch: (error|fatal|unrecognized|invalid|ambiguous|unknown|option )|Try .sbatch --help",
    re.IGNORECASE,
)
# Texts that leave open whether the scheduler took the request.
_UNDECIDED = re.compile(
    r"timed out|timeout|unable to contact|zero bytes|communication connection|connection refused|connection reset"
    r"|cannot connect|try again|temporarily|slurm_(receive|send)|no response",
    re.IGNORECASE,
)

MAX_RETRY_AFTER = 300.0
"""Seconds: a server that names a longer pause is asked again after this one."""

_SHORTEST_SECRET = 8
"""Characters: what is shorter would be found in any text."""

_EXCERPT = 20
"""Characters around what is not UTF-8."""


def is_refusal(text: str) -> bool:
    """Return whether the scheduler's message says that the request was wrong, so that it certainly made no job."""
    return _REFUSED.search(text) is not None and _UNDECIDED.search(text) is None


@contextmanager
def only_utf8() -> Iterator[None]:
    """While a request is made: name the text of the user's that it cannot carry.

    Raises:
        InvalidRequestError: a name or a script is not UTF-8.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        excerpt = error.object[max(0, error.start - _EXCERPT) : error.end + _EXCERPT]
        raise InvalidRequestError(
            f"{excerpt!r} is not UTF-8, and the API carries no other encoding.", hint="Rename or convert it."
        ) from None


def refused(message: str, hint: str = "", details: tuple[str, ...] = ()) -> InvalidRequestError:
    """The error of a request that was refused, by the words of the scheduler."""
    if SubmitLimitError.is_meant(" ".join((message, *details))):
        return SubmitLimitError(message, hint="Submit it again when one of your jobs has ended.", details=details)
    return InvalidRequestError(message, hint=hint, details=details)


def without_credential(
    error_of: Callable[[httpx.Response], CrestlineError], header: str
) -> Callable[[httpx.Response], CrestlineError]:
    """Return `error_of` for answers that may repeat the credential of their request, which then shows nowhere.

    Args:
        header: name of the request's header that the credential is in.
    """

    def judge(response: httpx.Response) -> CrestlineError:
        credential = response.request.headers.get(header, "").rpartition(" ")[2].encode()
        content = response.content
        if len(credential) >= _SHORTEST_SECRET:
            for written in (credential, credential.replace(b"/", rb"\/")):
                content = content.replace(written, "…".encode())
        if content != response.content:
            headers = {
                name: value for name, value in response.headers.items() if name in ("content-type", "retry-after")
            }
            response = httpx.Response(response.status_code, headers=headers, content=content, request=response.request)
        return error_of(response)

    return judge


def malformed_response(response: httpx.Response, why: str) -> GatewayUnavailableError:
    """Return the error for an answer of the expected status that cannot be read."""
    place = f"{response.request.method} {response.request.url.path}"
    return GatewayUnavailableError(
        f"The gateway's answer to {place} cannot be read: {why}.",
        hint="Something between here and the gateway may answer in its place; check the URL.",
    )


def connection_error(
    error: httpx.HTTPError | httpx.InvalidURL, url: str, kind: type[GatewayUnavailableError] = GatewayUnavailableError
) -> GatewayUnavailableError:
    """Return the error for a request that got no answer: connection refused, name unknown, timeout, invalid URL."""
    text = str(error)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return kind(f"{url!r} is not a URL of a gateway.", hint="Begin it with https:// and the host's name.")
    hint = "Check the URL and the network, then try again."
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "Its certificate is not trusted: name its authority in `ca_file` of the site."
    return kind(f"{url} does not answer ({type(error).__name__}).", hint=hint)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3), at most `MAX_RETRY_AFTER`."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - time()), MAX_RETRY_AFTER)
    except (TypeError, ValueError, OverflowError):
        return None
