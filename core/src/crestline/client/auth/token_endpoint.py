"""A request to an OAuth2 token endpoint (RFC 6749, section 5)."""

from __future__ import annotations

import re
import ssl

import httpx
import msgspec
from httpx_retries import Retry, RetryTransport

from crestline import clock
from crestline.bounded import ENCODING, MAX_REFUSAL, decode, read_whole_blocking
from crestline.client.auth.token import Token, make_token
from crestline.model import AuthenticationError, GatewayUnavailableError
from crestline.plain_http import bare, check_url

_TIMEOUT = httpx.Timeout(15.0, connect=10.0)
_CODE = re.compile(r"[a-z_]{1,60}")
"""what an error is called; any other text may repeat what was sent"""
_BODY_TIMEOUT = 60.0
"""seconds until the answer is complete"""
_ONLY_CHANCE = httpx.Timeout(60.0, connect=10.0)
"""where the answer has a new refresh token: giving up loses the login"""
# As patient as the requests that wait for the token: an issuer that restarts fails none of them.
_RETRY = Retry(
    total=6,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    total_timeout=40.0,
    max_backoff_wait=10.0,
    status_forcelist=(429, 502, 503, 504),
)


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class _Refusal(msgspec.Struct):
    error: str = ""
    error_description: str = ""


def request_token(
    url: str, form: dict[str, str], *, verify: ssl.SSLContext | bool = True, repeatable: bool = True
) -> tuple[Token, str | None]:
    """Ask for an access token; blocking.

    Args:
        form: the fields of the request, client id and secret among them.
        repeatable: whether a lost request may be sent again; not so where a refresh token is used up by it.

    Returns:
        the access token, and a refresh token if there is a (new) one.

    Raises:
        AuthenticationError: the endpoint refused.
        ConfigError: it is plain HTTP on another machine; see `crestline.plain_http`.
        GatewayUnavailableError: it did not answer, or nothing that makes sense.
    """
    check_url(url)
    exceptions = None if repeatable else (httpx.ConnectError, httpx.ConnectTimeout)
    retry = _RETRY.copy_with(allowed_methods=("POST",), retry_on_exceptions=exceptions)
    timeout = _TIMEOUT if repeatable else _ONLY_CHANCE
    issued = clock.time()
    try:
        transport = RetryTransport(httpx.HTTPTransport(verify=verify), retry)
        with httpx.Client(verify=verify, mounts={"all://": transport}) as client:
            headers = {"Accept": "application/json", **ENCODING}
            request = client.build_request("POST", url, data=form, headers=headers, timeout=timeout)
            answer = read_whole_blocking(client.send(request, stream=True), request, MAX_REFUSAL, seconds=_BODY_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise GatewayUnavailableError(
            f"The token endpoint {bare(url)} does not answer ({type(error).__name__}).",
            hint="Check token_url and the network, then try again.",
        ) from None
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise GatewayUnavailableError(
            f"The token endpoint {bare(url)} answered {answer.status_code}.", hint="Try again later."
        )
    if answer.status_code != 200:
        raise _refusal(url, answer, form)
    try:
        body = decode(answer.content, _Answer, strict=False)
    except msgspec.DecodeError:
        raise GatewayUnavailableError(
            f"The token endpoint {bare(url)} answered 200 without an access token.", hint="Check token_url."
        ) from None
    return make_token(body.access_token, issued, body.expires_in), body.refresh_token


def _refusal(url: str, answer: httpx.Response, form: dict[str, str]) -> AuthenticationError:
    try:
        why = decode(answer.content, _Refusal)
    except msgspec.DecodeError:
        why = _Refusal()
    if why.error == "invalid_grant":
        hint = "The refresh token has expired or was used already: sign in again and store the new one."
    else:
        hint = "Check client id and secret, and that they belong to this token_url."
    secrets = [form[name] for name in ("client_secret", "refresh_token") if name in form]
    is_code = _CODE.fullmatch(why.error) and not any(each in why.error or why.error in each for each in secrets)
    reason = why.error if is_code else f"status {answer.status_code}"
    return AuthenticationError(f"The token endpoint {bare(url)} refused the credentials ({reason}).", hint=hint)
