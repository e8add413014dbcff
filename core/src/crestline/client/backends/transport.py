"""The httpx client under every backend: what is repeated, for how long, and what never reaches a log."""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

import httpx
from httpx_retries import Retry, RetryTransport

from crestline.bounded import ENCODING, no_cookies, read_whole
from crestline.client.auth.base import Authorizer, fingerprint
from crestline.client.backends.answers import connection_error, only_utf8
from crestline.client.backends.messages import NOTHING_BEGAN, NotSentError
from crestline.client.backends.outages import OutageLog
from crestline.client.backends.request_gate import RequestGate
from crestline.client.policy import RetryPolicy
from crestline.client.traffic import CountingTransport, Traffic
from crestline.model import (
    AuthenticationError,
    CrestlineError,
    GatewayUnavailableError,
    MaintenanceError,
    RateLimitedError,
)
from crestline.tracing import client_span

T = TypeVar("T")

logger = logging.getLogger(__name__)


class RetryMode(enum.StrEnum):
    """When a request is sent again after a failure."""

    IDEMPOTENT = "idempotent"
    """after each passing failure, since it can be carried out any number of times"""
    UNLESS_TIMED_OUT = "unless_timed_out"
    """as `IDEMPOTENT`, but not after 408: the work would take as long again"""
    NON_IDEMPOTENT = "non_idempotent"
    """only if it never left or was turned away, because it must not be carried out twice"""
    FAIL_FAST = "fail_fast"
    """once at most, because the caller has a better answer to a failure than to wait"""


repeat: ContextVar[RetryMode] = ContextVar("crestline_repeat", default=RetryMode.IDEMPOTENT)


class Attempts:
    """What has come of the tries of one call so far.

    Attributes:
        count: tries that have begun.
        last: answer or failure of the last one that has ended.
        server_errors: tries that were answered by 500.
        doubtful: tries that may have changed something, since no answer says otherwise.
        deadline: of the whole call; None outside of one.
        has_queued: a try had its token and waited for others to be answered.
    """

    deadline: asyncio.Timeout | None = None
    has_queued = False

    def __init__(self) -> None:
        self.count = 0
        self.last: httpx.Response | httpx.HTTPError | None = None
        self.server_errors = 0
        self.doubtful = 0

    def judged(self, error: CrestlineError) -> CrestlineError:
        """The error of the whole call, where this is the one of its last try: another may have been carried out."""
        if not (isinstance(error, (NotSentError, RateLimitedError)) and self.doubtful):
            return error
        return GatewayUnavailableError(
            error.message, hint="Try again later.", details=error.details, retry_after=error.retry_after
        )

    def out_of_time(
        self, url: str, policy: RetryPolicy, error_of: Callable[[httpx.Response], CrestlineError]
    ) -> CrestlineError:
        """The error of a call that was tried until its time was up: what came of the last try, if anything did."""
        budget = f"{policy.total_timeout:.0f} s"
        if not self.count and self.has_queued:
            return NotSentError(f"{url} did not answer other requests within {budget}.", hint="Try again later.")
        if not self.count:
            hint = "Check its token_url, or what else gives the token, and try again later."
            return NotSentError(f"No access token for {url} within {budget}.", hint=hint)
        if self.last is None:
            return GatewayUnavailableError(f"{url} did not answer within {budget}.", hint="Try again later.")
        if isinstance(self.last, httpx.HTTPError):
            kind = NotSentError if isinstance(self.last, NEVER_LEFT) else GatewayUnavailableError
            error: CrestlineError = self.judged(connection_error(self.last, url, kind))
        else:
            error = self.judged(error_of(self.last))
        error.message = f"{error.message.rstrip('.')}, after {self.count} tries in {budget}."
        return error


class Renewals:
    """The access tokens that a server refused during one call, which is sent again with each new one.

    Args:
        most: new tokens for one call.
    """

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._refused: set[str] = set()

    def allow(self, error: AuthenticationError) -> bool:
        """Whether to send the call again: `note_refusal` marked the error, and the refused token was a new one."""
        token = getattr(error, "refused_token", None)
        if token is None or token in self._refused or len(self._refused) >= self._most:
            return False
        self._refused.add(token)
        if (so_far := attempts.get()) is not None:
            so_far.last = None  # if the time is up before the next answer, the refused token is not the reason
        return True


def note_refusal(error: CrestlineError, request: httpx.Request, authorizer: Authorizer) -> None:
    """Tell the authorizer that a server answered 401, and mark the error if another token may come."""
    if authorizer.refused(request.headers):
        error.refused_token = fingerprint(request.headers.get("Authorization", ""))  # type: ignore[attr-defined]


attempts: ContextVar[Attempts | None] = ContextVar("crestline_attempts", default=None)
"""noted here for the error of the whole call"""

NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""failures of a request of which no server has seen a part"""
_PASSING = {408, 424, 429, 500, 502, 503, 504}
_AT_ONCE = 20
"""requests of a client that wait for whole answers; as many connections are left for streams"""
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")


async def run_with_retries(
    send: Callable[[], Awaitable[T]],
    how: RetryMode,
    url: str,
    policy: RetryPolicy,
    error_of: Callable[[httpx.Response], CrestlineError],
) -> T:
    """Make a call within the policy's budget, and again with each token that replaces a refused one.

    Args:
        send: the call, through a client of `make_client`.
        how: how each of its requests may be repeated.
        url: of the gateway, for messages.
        policy: of the client.
        error_of: the error that an answer means.

    Raises:
        CrestlineError: what became of the last try, judged by all of them.
    """
    token = repeat.set(how)
    so_far = Attempts()
    noted = attempts.set(so_far)
    try:
        async with asyncio.timeout(policy.total_timeout) as so_far.deadline:
            renewals = Renewals()
            while True:
                try:
                    with only_utf8():
                        return await send()
                except AuthenticationError as error:
                    if not renewals.allow(error):
                        raise
                except NEVER_LEFT as error:
                    raise connection_error(error, url, NotSentError) from None
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise connection_error(error, url) from None
    except TimeoutError:
        raise so_far.out_of_time(url, policy, error_of) from None
    except NOTHING_BEGAN as error:
        raise so_far.judged(error) from None
    finally:
        attempts.reset(noted)
        repeat.reset(token)


class _Retry(Retry):
    """A 500 of FirecREST is a passing failure of the scheduler or a final refusal: it gets two chances."""

    def is_retryable_status_code(self, status_code: int) -> bool:
        if status_code == 500 and (so_far := attempts.get()) is not None and so_far.server_errors > 2:
            return False
        return super().is_retryable_status_code(status_code)


def retries(policy: RetryPolicy) -> dict[RetryMode, Retry]:
    """Translate the policy into the `Retry` objects of httpx-retries, one for each kind of repetition."""
    idempotent = _Retry(
        total=policy.attempts,
        allowed_methods=_METHODS,
        status_forcelist=tuple(_PASSING),
        backoff_factor=policy.initial_backoff,
        backoff_jitter=0.5,
        max_backoff_wait=policy.max_backoff,
        total_timeout=policy.total_timeout,
    )
    return {
        RetryMode.IDEMPOTENT: idempotent,
        RetryMode.UNLESS_TIMED_OUT: idempotent.copy_with(status_forcelist=tuple(_PASSING - {408})),
        RetryMode.NON_IDEMPOTENT: idempotent.copy_with(status_forcelist=(429,), retry_on_exceptions=NEVER_LEFT),
        RetryMode.FAIL_FAST: idempotent.copy_with(total=1, status_forcelist=(429, 503)),
    }


class _WholeAnswers(httpx.AsyncBaseTransport):
    """Reads an answer to its end here, so that one that breaks off is repeated like one that never began."""

    def __init__(
        self,
        kept: httpx.AsyncBaseTransport,
        fresh: httpx.AsyncBaseTransport,
        outages: OutageLog,
        error_of: Callable[[httpx.Response], CrestlineError],
    ) -> None:
        self._kept = kept
        self._fresh = fresh
        self._outages = outages
        self._error_of = error_of
        self._gate = RequestGate(_AT_ONCE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with client_span(request.method, request.url.host, request.url.path, request.headers) as span:
            answer = await self._send(request)
            if span is not None:
                span.set_attribute("http.response.status_code", answer.status_code)
            return answer

    async def _send(self, request: httpx.Request) -> httpx.Response:
        connections = self._fresh if request.extensions.get("crestline.once") else self._kept
        if request.extensions.get("crestline.stream"):
            return await connections.handle_async_request(request)
        so_far = attempts.get() or Attempts()
        so_far.has_queued = True
        async with self._gate.place(so_far.deadline):
            return await self._send_whole(request, connections, so_far)

    async def _send_whole(
        self, request: httpx.Request, connections: httpx.AsyncBaseTransport, so_far: Attempts
    ) -> httpx.Response:
        so_far.count += 1
        changes = request.method not in ("GET", "HEAD")
        so_far.doubtful += changes
        try:
            whole = await read_whole(await connections.handle_async_request(request), request)
        except httpx.HTTPError as failure:
            so_far.last = failure
            so_far.doubtful -= changes and isinstance(failure, NEVER_LEFT)
            message = connection_error(failure, str(request.url.copy_with(path="/", query=None))).message
            self._note(request, so_far.count, message)
            raise
        self._gate.answers += 1
        so_far.last = whole
        so_far.server_errors += whole.status_code == 500
        if whole.status_code not in _PASSING:
            so_far.doubtful -= changes
            self._outages.succeeded(request)
            return whole
        error = self._error_of(whole)
        so_far.doubtful -= changes and isinstance(error, NOTHING_BEGAN)
        if isinstance(error, MaintenanceError):
            raise error  # no repeat helps before it ends
        if not isinstance(error, GatewayUnavailableError | RateLimitedError):  # a refusal, which has a 500 on FirecREST
            self._outages.succeeded(request)
            return whole
        self._note(request, so_far.count, error.message)
        return whole

    def _note(self, request: httpx.Request, count: int, message: str) -> None:
        logger.debug("Try %d of %s %s failed: %s", count, request.method, request.url.path, message)
        self._outages.failed(request, message)

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._fresh.aclose()


def make_client(
    url: str,
    verify: ssl.SSLContext | bool,
    policy: RetryPolicy,
    error_of: Callable[[httpx.Response], CrestlineError],
    traffic: Traffic | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for one gateway that counts in `traffic`.

    A request with the extension `crestline.stream` is neither buffered nor repeated.

    Args:
        error_of: the error that an answer other than the expected one means.
        transport: carries all requests in place of the network.
    """
    if transport is not None:
        kept = fresh = transport
    else:
        proxy = _proxy(url)
        kept = httpx.AsyncHTTPTransport(
            verify=verify, proxy=proxy, limits=httpx.Limits(max_connections=2 * _AT_ONCE, keepalive_expiry=30)
        )
        # A kept connection may break just as it is used again (FirecREST's do, after some errors). What must not go
        # out twice gets a new one, so that it is not left in doubt by that.
        fresh = httpx.AsyncHTTPTransport(verify=verify, proxy=proxy, limits=httpx.Limits(max_keepalive_connections=0))
    by_kind = retries(policy)

    async def choose(request: httpx.Request) -> None:
        if request.extensions.get("crestline.stream"):
            request.extensions["retry"] = Retry(total=0)
        else:
            request.extensions["retry"] = by_kind[repeat.get()]
            request.extensions["crestline.once"] = repeat.get() == RetryMode.NON_IDEMPOTENT

    kept, fresh = (CountingTransport(each, traffic or Traffic()) for each in (kept, fresh))
    answers = _WholeAnswers(kept, fresh, OutageLog(url), error_of)
    return httpx.AsyncClient(
        transport=RetryTransport(answers),
        timeout=httpx.Timeout(policy.read_timeout, connect=policy.connect_timeout),
        headers=ENCODING,
        cookies=no_cookies(),
        event_hooks={"request": [choose]},
    )


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address; httpx looks only where it makes the transport."""
    target = httpx.URL(url)
    if urllib.request.proxy_bypass(target.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(target.scheme) or proxies.get("all")
