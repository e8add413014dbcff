"""HTTP responses with a bounded size, number of values and depth of nesting, regardless of what the server sends."""

from __future__ import annotations

import asyncio
import zlib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx
import msgspec

from crestline import clock
from crestline.model import GatewayUnavailableError, TooLargeError

T = TypeVar("T")

MAX_ANSWER = 128 << 20
"""Maximum size in bytes of a response that is read into memory, both as received and decompressed."""
MAX_REFUSAL = 1 << 20
"""Maximum size in bytes of an error response."""
MAX_VALUES = 8_000_000
"""Maximum number of commas and brackets of a JSON document, each of which becomes an object in memory. With an
explicit `limit`, the maximum is a sixteenth of that."""

_MAX_REDIRECTS = 5

ENCODING = {"Accept-Encoding": "gzip"}
"""Headers of requests whose responses a `Body` reads."""
_GZIP = 31


class Body:
    """Collects and decompresses the body of a response.

    Args:
        limit: maximum size in bytes, both as received and decompressed. None means `MAX_ANSWER`, or `MAX_REFUSAL` for
            status codes from 300.
    """

    def __init__(self, response: httpx.Response, request: httpx.Request, limit: int | None = None) -> None:
        self._is_refusal = response.status_code >= 300
        self._limit = limit or (MAX_REFUSAL if self._is_refusal else MAX_ANSWER)
        self._values = limit // 16 if limit else MAX_VALUES
        self._where = f"The answer to {request.method} {request.url.path}"
        self._parts: list[bytes] = []
        self._sizes = [0, 0]
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        self._unpacker = zlib.decompressobj(_GZIP) if coding in ("gzip", "x-gzip") else None
        if coding not in ("", "identity", "gzip", "x-gzip"):
            self._fail(GatewayUnavailableError(f"{self._where} is packed as {coding[:20]!r}, which was not asked for."))

    def add(self, chunk: bytes) -> bool:
        """Add the next chunk. Returns False if the rest of the body is not needed.

        Raises:
            GatewayUnavailableError: the body cannot be decompressed.
            TooLargeError: the body exceeds the limit.
        """
        self._count(0, chunk)
        if self._unpacker is not None and self._limit > 0:
            try:
                chunk = self._unpacker.decompress(chunk, self._limit + 1 - self._sizes[1])
            except zlib.error:
                self._fail(GatewayUnavailableError(f"{self._where} says that it is gzip, and is not."))
                chunk = b""
        self._count(1, chunk)
        self._parts.append(chunk)
        return self._limit > 0

    def whole(self) -> bytes:
        """Return the decompressed body. It is empty for an error response that exceeded the limits.

        Raises:
            TooLargeError: the body is JSON with too many values.
        """
        if self._limit <= 0:
            return b""
        content = b"".join(self._parts)
        may_be_json = content[:64].lstrip()[:1] in (b"{", b"[")
        if may_be_json and len(content) > self._values < sum(map(content.count, (b",", b"[", b"{"))):
            raise TooLargeError(f"{self._where} has more than {self._values} values.", hint="Ask for less at once.")
        return content

    def _count(self, which: int, chunk: bytes) -> None:
        self._sizes[which] += len(chunk)
        if self._sizes[which] > self._limit > 0:
            self._fail(TooLargeError(f"{self._where} has more than {self._limit} bytes.", hint="Ask for less at once."))

    def _fail(self, error: GatewayUnavailableError | TooLargeError) -> None:
        if not self._is_refusal:
            raise error
        self._limit = 0


async def read_whole(response: httpx.Response, request: httpx.Request, limit: int | None = None) -> httpx.Response:
    """Read a response to its end and close it.

    Args:
        limit: see `Body`.

    Returns:
        The response with its decompressed content.

    Raises:
        GatewayUnavailableError: the content cannot be decompressed.
        TooLargeError: the content exceeds the limits.
        httpx.HTTPError: the connection was interrupted.
    """
    try:
        body = Body(response, request, limit)
        async for chunk in response.aiter_raw():
            if not body.add(chunk):
                break
    finally:
        await response.aclose()
    return _with_content(response, request, body)


def read_whole_blocking(
    response: httpx.Response, request: httpx.Request, limit: int | None = None, *, seconds: float
) -> httpx.Response:
    """Read a response like `read_whole`, without `await`.

    Args:
        seconds: maximum time for the whole body. Beyond that, `httpx.ReadTimeout` is raised.
    """
    end = clock.monotonic() + seconds
    try:
        body = Body(response, request, limit)
        for chunk in response.iter_raw():
            if clock.monotonic() > end:
                raise httpx.ReadTimeout("The answer did not end in time.", request=request)
            if not body.add(chunk):
                break
    finally:
        response.close()
    return _with_content(response, request, body)


class BoundedClient(httpx.AsyncClient):
    """An HTTP client that reads every response to its end, within limits, and stores no cookies.

    A response that exceeds the size limit raises `httpx.DecodingError`, one that takes too long `httpx.ReadTimeout`.

    Args:
        limit: maximum size of a response in bytes, both as received and decompressed.
        seconds: maximum time until a response is complete, including redirects.
        options: options of `httpx.AsyncClient`.
    """

    def __init__(self, *, limit: int, seconds: float, **options: Any) -> None:
        super().__init__(**{"timeout": seconds, "cookies": no_cookies(), **options})
        self.headers.update(ENCODING)
        self._limit = limit
        self._seconds = seconds

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and read the response. See `httpx.AsyncClient.send`.

        Raises:
            httpx.HTTPError: no response within the limits.
        """
        follow = options.pop("follow_redirects", httpx.USE_CLIENT_DEFAULT)
        redirects = _MAX_REDIRECTS if (self.follow_redirects if follow is httpx.USE_CLIENT_DEFAULT else follow) else 0
        options["stream"] = True
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    answer = await super().send(request, follow_redirects=False, **options)
                    if answer.next_request is None or not redirects:
                        return await read_whole(answer, request, self._limit)
                    await answer.aclose()
                    request, redirects = answer.next_request, redirects - 1
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {self._seconds:g} s", request=request) from None
        except httpx.LocalProtocolError:  # its message contains the header, which may be a credential
            raise httpx.LocalProtocolError("a header has a character that none can carry", request=request) from None
        except (GatewayUnavailableError, TooLargeError) as error:
            raise httpx.DecodingError(error.message, request=request) from None


def no_cookies() -> CookieJar:
    """Return a cookie jar that stores nothing."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def decode(content: bytes | str, kind: type[T], *, strict: bool = True) -> T:
    """Decode a JSON document.

    Raises:
        msgspec.DecodeError: malformed document, or one that is nested too deeply.
    """
    try:
        return msgspec.json.decode(content, type=kind, strict=strict)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def _with_content(response: httpx.Response, request: httpx.Request, body: Body) -> httpx.Response:
    headers = response.headers.copy()
    for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
        headers.pop(name, None)
    content, extensions = body.whole(), response.extensions
    return httpx.Response(
        response.status_code, headers=headers, content=content, extensions=extensions, request=request
    )
