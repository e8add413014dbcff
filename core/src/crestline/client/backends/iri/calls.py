"""One request to an IRI facility: credentials, repeats, a time limit, and errors of the model."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import httpx
import msgspec

from crestline.bounded import decode
from crestline.client.auth import Authorizer
from crestline.client.backends.answers import malformed_response, without_credential
from crestline.client.backends.iri.errors import error_from_response
from crestline.client.backends.transport import (
    RetryMode,
    make_client,
    note_refusal,
    run_with_retries,
)
from crestline.client.log_redaction import redact_logs
from crestline.client.policy import Policy
from crestline.client.traffic import Traffic
from crestline.model import CrestlineError, NotFoundError, TooLargeError
from crestline.plain_http import check_url
from crestline.wire.iri import Job, Resource

T = TypeVar("T")
E = TypeVar("E", Resource, Job)

_PAGE = 1000
"""entries of one page; the API allows no more"""
_PAGES = 20
"""of one list; a longer one is refused, as its reader would wait for minutes"""
_ABSENT = (401, 403, 404, 405, 501)
"""what proxies answer for a version that the facility does not serve; these calls need no token"""
_VERSION = re.compile(r"/v(\d+)$")


class Calls:
    """The HTTP client of one facility and one identity.

    Attributes:
        base: base URL of the version in use, without a slash at its end; known after `find_version`.
        version: 1 or 2; known after `find_version`.
    """

    def __init__(
        self,
        url: str,
        authorizer: Authorizer,
        *,
        verify: ssl.SSLContext | bool,
        policy: Policy,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        check_url(url)
        redact_logs()
        self.url = url.rstrip("/")
        self.base = ""
        self.version = 0
        self.policy = policy
        self.traffic = Traffic()
        self._authorizer = authorizer
        trust = httpx.create_ssl_context() if verify is True else verify  # once: it reads all authorities
        self._error_of = without_credential(error_from_response, authorizer.header)
        self._http = make_client(self.url, trust, policy.retry, self._error_of, self.traffic, transport)
        self._version_lock = asyncio.Lock()

    async def close(self) -> None:
        """Close all HTTP connections; later calls fail."""
        await self._http.aclose()

    async def find_version(self) -> None:
        """Find out which version the facility serves, unless the URL says it.

        Raises:
            NotFoundError: neither v2 nor v1 is there.
        """
        async with self._version_lock:
            if self.version:
                return
            if match := _VERSION.search(self.url):
                self.use_version(self.url, int(match[1]))
                return
            for version in (2, 1):
                base = f"{self.url}/api/v{version}"
                try:
                    await self.request("GET", "/facility", base=base)
                except CrestlineError as error:
                    if version > 1 and error.status in _ABSENT:
                        continue
                    if isinstance(error, NotFoundError):
                        break
                    raise
                self.use_version(base, version)
                return
            raise NotFoundError(
                f"{self.url} serves no IRI Facility API.",
                hint="Set the site's `url` to the base that ends in /v1 or /v2.",
            )

    def use_version(self, base: str, version: int) -> None:
        """Speak this version from now on."""
        self.base, self.version = base, version

    async def request(
        self,
        method: str,
        path: str,
        *,
        how: RetryMode = RetryMode.IDEMPOTENT,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        upload: tuple[str, bytes] | None = None,
        base: str | None = None,
    ) -> httpx.Response:
        """Send a request; every answer from 300 on is raised as an error.

        Args:
            path: below the base URL, with quoted segments.
            body: a message for the JSON body.
            upload: name and content of a file for a form.
        """
        url = (base or self.base) + path
        return await run_with_retries(
            lambda: self._send(method, url, params, body, headers, upload),
            how,
            self.url,
            self.policy.retry,
            self._error_of,
        )

    async def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        upload: tuple[str, bytes] | None,
    ) -> httpx.Response:
        more = dict(await self._authorizer.auth_headers()) | {"Accept": "application/json"} | dict(headers or {})
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            more["Content-Type"] = "application/json"
        response = await self._http.request(
            method,
            url,
            params={name: _query(value) for name, value in (params or {}).items() if value is not None},
            content=content,
            files={"file": upload} if upload is not None else None,
            headers=more,
        )
        if response.status_code >= 300:
            found = self._error_of(response)
            if response.status_code == 401:
                note_refusal(found, response.request, self._authorizer)
            raise found
        return response

    def read(self, response: httpx.Response, kind: type[T]) -> T:
        """The answer as a message."""
        try:
            return decode(response.content, kind, strict=False)
        except msgspec.DecodeError as error:
            raise malformed_response(response, str(error)) from None

    async def pages(
        self, method: str, path: str, kind: type[E], *, params: Mapping[str, Any] | None = None, **more: Any
    ) -> AsyncIterator[list[E]]:
        """The pages of a list, each entry once. The API gives no total: a page that is not full is the last one.

        Raises:
            TooLargeError: there are more than 20,000 entries.
        """
        known: set[str] = set()
        for page in range(_PAGES):
            response = await self.request(
                method, path, params={**(params or {}), "offset": page * _PAGE, "limit": _PAGE}, **more
            )
            found: list[E] = self.read(response, list[kind])  # type: ignore[valid-type]
            # Entries move to the next page when one is added, and some facilities ignore the offset.
            fresh = [each for each in found if each.id not in known]
            if page and not fresh:
                return
            known.update(each.id for each in fresh)
            yield fresh
            if len(found) < _PAGE:
                return
        raise TooLargeError(
            f"{path} of {self.url} has more than {_PAGE * _PAGES} entries.", hint="Ask for single ones."
        )


def _query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
