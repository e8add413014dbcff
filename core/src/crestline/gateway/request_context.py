"""The common part of all requests: paths in any case, request ids, FirecREST's headers, one log line each."""

from __future__ import annotations

import contextvars
import logging
import re
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from crestline import __version__
from crestline.gateway import metrics
from crestline.gateway.page_headers import page_headers
from crestline.tracing import server_span
from crestline.wire.extensions import FEATURES, FEATURES_HEADER, VERSION_HEADER

if TYPE_CHECKING:
    from opentelemetry.trace import Span

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")

PROTOCOL_VERSION = "2.6.0"

_log = logging.getLogger("crestline.access")
_SAFE_ID = re.compile(rb"^[A-Za-z0-9._-]{1,128}$")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_JOB_ID_SEGMENT = 4  # of /compute/{system}/jobs/{id}
_VERSION = (VERSION_HEADER.lower().encode(), f"{PROTOCOL_VERSION}+crestline.{__version__}".encode())
_FEATURES = (FEATURES_HEADER.lower().encode(), " ".join(FEATURES).encode())
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""Header of users' files, which browsers must never show as pages of the gateway."""
_LONGEST_PATH = 1024
_PAGE = [(name.lower().encode(), value.encode()) for name, value in page_headers({}).items() if name != "Cache-Control"]
"""Headers of HTML responses that are not pages of the gateway: no content, no frames."""
IRI_PREFIX = "/iri/"


class RequestContextMiddleware:
    """ASGI wrapper around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        identifier = _given(headers.get(b"x-request-id")) or uuid.uuid4().hex.encode()
        correlation = _given(headers.get(b"x-correlation-id")) or identifier
        scope["crestline_request_id"] = identifier.decode()  # type: ignore[typeddict-unknown-key]
        token = request_id.set(identifier.decode())
        scope["path"] = _lower(scope["path"])
        status = 0

        async def send_wrapped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                route = scope.get("path_template") or "none"
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.REQUESTS.labels(method, route, status).observe(time.perf_counter() - started)
                headers_out = [
                    *message["headers"],
                    _VERSION,
                    _FEATURES,
                    _NO_SNIFFING,
                    (b"f7t-timestamp", datetime.now(UTC).isoformat().encode()),
                    (b"x-request-id", identifier),
                    (b"x-correlation-id", correlation),
                ]
                if scope["method"] == "OPTIONS":
                    _allow_all_methods(scope, headers_out)
                if _is_unprotected_page(headers_out):
                    headers_out.extend(_PAGE)
                user = getattr(scope.get("user"), "username", None)
                if user is not None:
                    headers_out.append((b"f7t-authusername", user.encode("ascii", "backslashreplace")))
                message["headers"] = headers_out
            await send(message)

        try:
            with server_span(scope["method"], headers) as span:
                try:
                    await self._app(scope, receive, send_wrapped)
                finally:
                    if span is not None:
                        _describe(span, scope, status)
        finally:
            if _log.isEnabledFor(logging.INFO):
                user = getattr(scope.get("user"), "username", "-")
                milliseconds = (time.perf_counter() - started) * 1000
                # As it was sent, so it is one line, and without the query, which may contain the signature of a signed
                # URL.
                path = scope["raw_path"].partition(b"?")[0][:_LONGEST_PATH].decode("ascii", "backslashreplace")
                fields = {"user": user, "method": scope["method"], "path": path, "status": status}
                extra = {"fields": fields | {"milliseconds": round(milliseconds, 1)}}
                _log.info("%s %s %s %d %.1fms", user, scope["method"], path, status, milliseconds, extra=extra)
            request_id.reset(token)


def _describe(span: Span, scope: HTTPScope, status: int) -> None:
    """Name a span by its route, with the attributes of the request's log line."""
    route = scope.get("path_template") or "none"
    span.update_name(f"{scope['method']} {route}")
    span.set_attributes(
        {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
            "crestline.request_id": str(scope.get("crestline_request_id", "")),
            "enduser.id": getattr(scope.get("user"), "username", ""),
        }
    )


def _is_unprotected_page(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a browser would show the response as a page of the gateway's origin without a policy."""
    is_page = False
    for name, value in headers:
        if name == b"content-security-policy":
            return False
        is_page |= name == b"content-type" and (value.startswith(b"text/html") or b"xml" in value)
    return is_page


def _allow_all_methods(scope: HTTPScope, headers: list[tuple[bytes, bytes]]) -> None:
    """Set `Allow` to every method of the path. Litestar's answer to OPTIONS has only the first."""
    template = scope.get("path_template")
    routes = [each for each in scope["litestar_app"].routes if each.path_format == template]
    if routes:
        headers[:] = [each for each in headers if each[0] != b"allow"]
        methods = {str(method) for each in routes if isinstance(each, HTTPRoute) for method in each.methods}
        headers.append((b"allow", ", ".join(sorted(methods)).encode()))


def _given(value: bytes | None) -> bytes | None:
    """Return the client's request id if it can be logged and sent back."""
    return value if value and _SAFE_ID.match(value) else None


def _lower(path: str) -> str:
    """Return the path in lower case, as FirecREST routes it, except a job id, which belongs to the scheduler."""
    lower = path.lower()
    if lower.startswith(IRI_PREFIX):  # its ids, names and paths are case-sensitive
        return path
    if not lower.startswith("/compute/"):
        return lower
    segments = lower.split("/")
    if len(segments) > _JOB_ID_SEGMENT:
        segments[_JOB_ID_SEGMENT] = path.split("/")[_JOB_ID_SEGMENT]
    return "/".join(segments)
