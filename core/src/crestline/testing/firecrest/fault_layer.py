"""ASGI middleware that applies the rules of `Faults` and records requests."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crestline.testing.firecrest.faults import Rule
from crestline.testing.firecrest.refusals import Refusal
from crestline.testing.firecrest.state import FacilityState, Seen

ABORT = "crestline.testing.firecrest.abort"
"""Key in `scope["extensions"]` of the function that resets the connection, set by `Listener`."""
_TEXTS = {
    408: "Command execution timeout limit exceeded.",
    413: "Command output exceeded buffer limit.",
    424: "Unable to open a new SSH channel.",
    500: "('Channel not open for sending',)",
    503: "The scheduler service for the requested system (lab) is unhealthy.",
}
_TEXTS_AFTER = {424: "SSH connection Reset.", 503: "no healthy upstream"}
"""Messages of errors after which the work may be done. The texts above are for errors before it begins."""


class FaultLayer:
    """Middleware around an application. Requests to paths that begin with `/_` are neither changed nor recorded."""

    def __init__(self, app: ASGIApp, facility: FacilityState) -> None:
        self._app = app
        self._facility = facility
        self._poisoned: set[tuple[str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._facility, scope, send)
        scope["state"] = {**scope.get("state", {}), "drop": exchange.drop}
        client = tuple(scope["client"])
        rule = self._facility.faults.match(scope["method"], scope["path"].lower(), exchange.query)
        if client in self._poisoned:
            self._poisoned.discard(client)
            exchange.drop()
        elif rule is None:
            await self._app(scope, receive, exchange.send)
        elif rule.when == "before":
            await self._before(rule, exchange, receive)
        else:
            await self._after(rule, exchange, receive)
        if exchange.status == 400 and "/filesystem/" in scope["path"] and self._facility.faults.break_after_400:
            self._poisoned.add(client)
        if exchange.dropped:
            await asyncio.sleep(0.01)  # lets the server notice the lost connection before this returns

    async def _before(self, rule: Rule, exchange: _Exchange, receive: Receive) -> None:
        await asyncio.sleep(rule.delay)
        if rule.drop:
            exchange.drop()
        elif (answer := _tampered(rule, self._facility)) is not None:
            while (await receive()).get("more_body"):
                pass
            await answer(exchange.scope, receive, exchange.send)
        else:
            await self._app(exchange.scope, receive, exchange.send)

    async def _after(self, rule: Rule, exchange: _Exchange, receive: Receive) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self._app(exchange.scope, receive, hold)
        await asyncio.sleep(rule.delay)
        if rule.drop:
            exchange.drop()
        elif (answer := _tampered(rule, self._facility)) is not None:
            await answer(exchange.scope, receive, exchange.send)
        else:
            for message in held:
                await exchange.send(message)


class _Exchange:
    def __init__(self, facility: FacilityState, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.query = scope["query_string"].decode("latin-1")
        self.status = 0
        self.dropped = False
        self._facility = facility
        self._send = send

    async def send(self, message: Message) -> None:
        if self.dropped:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._note()
        await self._send(message)

    def drop(self) -> None:
        self.dropped = True
        self._note()
        self.scope["extensions"][ABORT]()

    def _note(self) -> None:
        self._facility.requests.append(Seen(self.scope["method"], self.scope["path"], self.query, self.status))


def _tampered(rule: Rule, facility: FacilityState) -> Response | None:
    if rule.status is None and rule.body is None:
        return None
    headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after:g}"}
    if rule.body is not None:
        return Response(rule.body, rule.status or 200, headers, media_type="text/html")
    if rule.status == 429:
        quota: dict[str, Any] = {"code": "900802", "message": "Message throttled out"}
        return JSONResponse(quota, 429, headers)
    assert rule.status is not None
    headers["F7T-AppVersion"] = facility.settings.version
    texts = _TEXTS | _TEXTS_AFTER if rule.when == "after" else _TEXTS
    return Refusal(rule.status, texts.get(rule.status, "Unexpected error"), headers=headers).response()
