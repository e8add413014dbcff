"""Records every request that changes something, and every denial, before the response is sent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from crestline.gateway.audit.notes import LONGEST_PATH, PRINCIPAL, REFUSAL, TARGETS
from crestline.gateway.audit.record import AuditRecord
from crestline.gateway.authorization.guard import required_scope
from crestline.gateway.identity import Principal
from crestline.gateway.runtime import GatewayRuntime

_DENIED = (401, 403)
_NO_ANSWER = 499
_TOO_MANY = 429
_LONGEST_TEXT = 16 * 1024  # room for the ids of a large batch
_LONGEST_NAME = 256
_LONGEST_REASON = 1024
_REFUSED = (401, 403, _TOO_MANY)
"""Statuses of a refused credential."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class AuditMiddleware:
    """ASGI wrapper around the application."""

    def __init__(self, app: ASGIApp, runtime: GatewayRuntime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_wrapped(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await self._record(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_wrapped)
        finally:
            if not answered:
                await self._record(scope, _NO_ANSWER)

    async def _record(self, scope: HTTPScope, status: int) -> None:
        if status not in _DENIED and not _changes(scope):
            return
        who: Principal | None = scope.get("user") or scope.get(PRINCIPAL)  # type: ignore[assignment]
        if who is None:
            return
        client = scope.get("client")
        is_known = scope.get("user") is not None
        path: Mapping[str, Any] = scope.get("path_params") or {}
        # Of a request with a refused credential, the record contains nothing that its sender chose, except the request
        # id.
        record = AuditRecord(
            at=time.time(),
            request_id=str(scope.get("crestline_request_id", "")),
            username=_clean(who.username, _LONGEST_NAME),
            client_id=_clean(who.client_id, _LONGEST_NAME),
            via=who.via,
            address=_clean(client[0], _LONGEST_NAME) if client else "",
            action=_clean(f"{scope['method']} {scope.get('path_template') or '(no such route)'}", _LONGEST_NAME),
            system=_clean(str(path.get("system_name", "")), _LONGEST_NAME) if is_known else "",
            target=_clean(" ".join(_targets(scope, path))) if is_known else "",
            status=status,
            reason=_clean(str(scope.get(REFUSAL, "")), _LONGEST_REASON) if status >= 400 else "",
        )
        if status not in _REFUSED or (is_known and status != _TOO_MANY):
            await self._runtime.audit.record(record)
        else:
            await self._runtime.sign_ins.record(record)


def _changes(scope: HTTPScope) -> bool:
    handler = scope.get("route_handler")
    if scope["method"] in _SAFE_METHODS or handler is None:
        return False
    if handler.opt.get("public"):
        return True
    return required_scope(scope["method"], handler.opt).endswith(":write")


def _targets(scope: HTTPScope, path: Mapping[str, Any]) -> list[str]:
    named = [str(value) for name, value in path.items() if name != "system_name"]
    query = [
        each[:LONGEST_PATH] for each in parse_qs(scope.get("query_string", b"").decode("latin-1")).get("path", [])[:1]
    ]
    noted: list[str] = scope.get(TARGETS) or []  # type: ignore[assignment]
    return [*named, *query, *noted]


def _clean(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Make a text fit for any database: of bounded length, without NUL and lone surrogates."""
    return text[:longest].encode("utf-8", "replace").decode().replace("\0", "\\0")
