"""One call to a FirecREST gateway through pyfirecrest: credentials, repeats, a time limit, and errors of the model."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec
from firecrest.FirecrestException import FirecrestException
from firecrest.tracing import ensure_correlation_id
from firecrest.v2 import AsyncFirecrest

from crestline.bounded import decode, read_whole
from crestline.client.auth import Authorizer
from crestline.client.backends.answers import connection_error, malformed_response, only_utf8, without_credential
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.errors import error_from_response
from crestline.client.backends.transport import (
    Renewals,
    RetryMode,
    make_client,
    note_refusal,
    run_with_retries,
)
from crestline.client.log_redaction import redact_logs
from crestline.client.policy import RetryPolicy
from crestline.client.traffic import Traffic
from crestline.model import AuthenticationError, CrestlineError, GatewayUnavailableError, UnsupportedError
from crestline.plain_http import check_url

T = TypeVar("T")

# What this module touches inside pyfirecrest; tests/core/test_backend_firecrest.py watches over it.
PRIVATE_NAMES = ("_session", "_get_request", "_post_request", "_put_request", "_delete_request", "_auth_headers")


class Calls:
    """Holds the pyfirecrest client of one gateway and one identity, and what all calls to one of its systems need."""

    system_name: str = ""
    account: str | None = None
    """charged for jobs that name none, transfer jobs among them"""
    capabilities: frozenset[Capability] = frozenset()
    entry: dict[str, Any]
    """the system's entry of `/status/systems`"""
    transfer_service: str | None = "s3"
    transfer_directives: tuple[str, ...] = ()
    """lines that the site puts at the head of its transfer jobs; `{account}` stands for the account"""

    def __init__(
        self,
        url: str,
        authorizer: Authorizer,
        *,
        verify: ssl.SSLContext | bool = True,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        check_url(url)
        redact_logs()
        self.gateway_url = url.rstrip("/")
        self.identity = authorizer.identity
        self.verify = verify
        self._authorizer = authorizer
        self._policy = retry or RetryPolicy()
        self.traffic = Traffic()
        if httpx.URL(self.gateway_url).scheme != "https":
            trust: ssl.SSLContext | bool = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused, so it trusts no authority
        else:
            trust = httpx.create_ssl_context() if verify is True else verify  # once: it reads all authorities
        self._error_of = without_credential(error_from_response, authorizer.header)
        self._http = make_client(self.gateway_url, trust, self._policy, self._error_of, self.traffic, transport)
        self._api = AsyncFirecrest(self.gateway_url, authorizer, verify=trust)
        self._api._session = self._http
        self._api.timeout = self._http.timeout
        self._api.num_retries_rate_limit = 0
        self._api.disable_client_logging = True

    async def close(self) -> None:
        """Close all HTTP connections; later calls fail."""
        await self._api.close_session()

    async def _ask(self, send: Callable[[], Awaitable[T]], how: RetryMode = RetryMode.IDEMPOTENT) -> T:
        """Run one of pyfirecrest's methods; `send` is called again after a refused token, as `Renewals` allows."""
        with ensure_correlation_id():
            return await run_with_retries(lambda: self._send(send), how, self.gateway_url, self._policy, self._error_of)

    async def _send(self, send: Callable[[], Awaitable[T]]) -> T:
        try:
            return await send()
        except FirecrestException as error:
            raise self._refusal(error.responses[-1]) from None
        except RecursionError:
            raise GatewayUnavailableError(f"An answer of {self.gateway_url} is nested too deeply.") from None

    def _refusal(self, response: httpx.Response) -> CrestlineError:
        error = self._error_of(response)
        if response.status_code == 401:
            note_refusal(error, response.request, self._authorizer)
        return error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        expect: int,
        how: RetryMode = RetryMode.IDEMPOTENT,
        params: dict[str, Any] | None = None,
        body: Any = None,
        **more: Any,
    ) -> httpx.Response:
        """An endpoint that pyfirecrest has no method for, or whose method does too much.

        Args:
            expect: the status of success; any other answer is raised as an error.
            body: a message for the request's JSON body.
        """
        if body is not None:
            more["json_data"] = _without_nulls(msgspec.to_builtins(body))
        if params is not None:
            more["params"] = _without_nulls(params)

        async def send() -> httpx.Response:
            response: httpx.Response = await getattr(self._api, f"_{method}_request")(path, **more)
            if response.status_code != expect:
                raise self._refusal(response)
            return response

        return await self._ask(send, how)

    async def _fetch(self, kind: type[T], path: str, *, method: str = "get", expect: int = 200, **more: Any) -> T:
        """The decoded answer of a request; `more` as for `_request`."""
        return self._read(await self._request(method, path, expect=expect, **more), kind)

    def _need(self, feature: Capability) -> None:
        """Refuse what this gateway lacks.

        Raises:
            UnsupportedError: it does not advertise the addition.
        """
        if feature not in self.capabilities:
            raise UnsupportedError(
                f"{self.gateway_url} does not offer '{feature}'.", hint="Only a Crestline gateway does."
            )

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterator[bytes] | bytes | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One streaming request; not repeated, but for a refused token where nothing was sent yet.

        Args:
            silence: seconds without a byte after which the answer counts as broken; None: the usual ones.
        """
        timeout = httpx.Timeout(silence or self._policy.read_timeout, connect=self._policy.connect_timeout)
        renewals = Renewals(0) if isinstance(content, AsyncIterator) else Renewals()
        while True:
            with only_utf8():
                request = self._http.build_request(
                    method,
                    self.gateway_url + path,
                    params=params,
                    headers={**await self._authorizer.auth_headers(), **(headers or {})},
                    content=content,
                    timeout=timeout,
                    extensions={"crestline.stream": True},
                )
            try:
                response = await self._http.send(request, stream=True)
                try:
                    if response.status_code >= 300:
                        raise self._refusal(await read_whole(response, request))
                    yield response
                    return
                finally:
                    await response.aclose()
            except AuthenticationError as error:
                if not renewals.allow(error):
                    raise
            except httpx.HTTPError as error:
                raise connection_error(error, self.gateway_url) from None

    async def _result(
        self, send: Callable[[], Awaitable[Any]], kind: type[T], how: RetryMode = RetryMode.IDEMPOTENT
    ) -> T:
        """The decoded result of one of pyfirecrest's own methods as a message."""
        try:
            return msgspec.convert(await self._ask(send, how), kind, strict=False)
        except (ValueError, KeyError, TypeError) as error:  # no JSON, or not the fields that belong there
            raise GatewayUnavailableError(
                f"An answer of {self.gateway_url} cannot be read ({type(error).__name__}).",
                hint="Something between here and the gateway may answer in its place; check the URL.",
            ) from None

    def _read(self, response: httpx.Response, kind: type[T]) -> T:
        try:
            return decode(response.content, kind, strict=False)
        except msgspec.DecodeError as error:
            raise malformed_response(response, str(error)) from None


def _without_nulls(value: Any) -> Any:
    """FirecREST refuses null for some of the fields that may be absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return value
