"""Common steps of all FirecREST endpoints: token, system, health, body, headers and errors."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest.refusals import BrokenConnection, Refusal, invalid
from crestline.testing.firecrest.settings import User
from crestline.testing.firecrest.state import FacilityState


@dataclass
class Call:
    """A request as passed to a handler. Its body is decoded, in camelCase or snake_case."""

    facility: FacilityState
    user: User
    params: dict[str, str]
    query: QueryParams
    body: dict[str, Any] = field(default_factory=dict)
    upload: tuple[str, bytes] | None = None

    def flag(self, name: str) -> bool:
        """Return a boolean query parameter, false by default."""
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"):
            raise invalid("query", name, "Input should be a valid boolean, unable to interpret input", value=text)
        return text in ("true", "1", "yes", "on", "t", "y")

    def number(self, name: str) -> int | None:
        """Return an integer query parameter, or None."""
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[+-]?\d+", text):
            raise invalid("query", name, "Input should be a valid integer, unable to parse string", value=text)
        return int(text)

    def text(self, *names: str) -> str | None:
        """Return the first of these text fields in the body, or None."""
        for name in names:
            value = self.body.get(name)
            if value is not None:
                if not isinstance(value, str):
                    raise invalid("body", name, "Input should be a valid string", value=value)
                return value
        return None


Handler = Callable[[Call], Response]


def route(
    facility: FacilityState,
    path: str,
    handler: Handler,
    method: str = "GET",
    *,
    needs: str = "",
    body: str = "",
    public: bool = False,
    commands: int = 1,
) -> Route:
    """Create a route below FirecREST's root.

    If the service `needs` (`scheduler`, `filesystem`) is unhealthy, the response is 503. `body` is `json`, `form` or
    empty. `public` endpoints require no token. `commands` is the number of concurrent commands on the system, each in a
    session of the user's connection. A path with `{system}` only serves the configured system.
    """

    async def run(request: Request) -> Response:
        user: User | None = None
        try:
            user = User("", "", 0) if public else facility.issuer.check(request.headers.get("authorization"))
            if request.path_params.get("system", facility.settings.system) != facility.settings.system:
                raise Refusal(404, "System not found")
            if needs:
                _check_health(facility, needs)
            call = Call(facility, user, dict(request.path_params), request.query_params)
            if body == "json":
                call.body = _object(await request.body())
            elif body == "form":
                call.upload = await _file_of(request)
            async with _session(facility, user, needs, commands):
                answer = await run_in_threadpool(handler, call)
        except Refusal as refusal:
            answer = refusal.response(user.name if user else None)
        for name, value in _headers(facility, request, user).items():
            answer.headers.setdefault(name, value)
        return answer

    found = Route(path, run, methods=[method])
    if found.methods is not None:
        found.methods.discard("HEAD")
    return found


def plain_error(status: int, message: str) -> Response:
    """Return an error outside of any endpoint, such as for an unknown path."""
    return JSONResponse(
        {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": None}, status_code=status
    )


def _headers(facility: FacilityState, request: Request, user: User | None) -> dict[str, str]:
    request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
    headers = {
        "F7T-Timestamp": datetime.now(UTC).isoformat(),
        "F7T-AppVersion": facility.settings.version,
        "X-Request-ID": request_id,
        "X-Correlation-ID": request.headers.get("x-correlation-id") or request_id,
    }
    if user and user.name:
        headers["F7T-AuthUsername"] = user.name
    return headers


def _check_health(facility: FacilityState, service: str) -> None:
    red = facility.faults.unhealthy
    if red in (service, "ssh") and red:
        message = f"The {red} service for the requested system ({facility.settings.system}) is unhealthy."
        raise Refusal(503, message)


@asynccontextmanager
async def _session(facility: FacilityState, user: User, needs: str, commands: int) -> AsyncIterator[None]:
    """Occupy sessions of the user's connection for the time that the commands of a request take."""
    limit = facility.faults.max_sessions if needs else None
    taken = facility.sessions.get(user.name, 0)
    if limit is not None and taken + commands > limit:
        words = "Unable to open a new SSH channel."
        if commands > 1:
            raise Refusal(500, "Error executing Slurm command.", caused_by=[words])
        raise Refusal(424, words)
    facility.sessions[user.name] = taken + commands
    try:
        if needs:
            await asyncio.sleep(facility.faults.command_time)
        yield
    finally:
        facility.sessions[user.name] -= commands


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        raise BrokenConnection from None  # as measured: no response, "Server disconnected"
    if not isinstance(found, dict):
        raise invalid("body", "", "Input should be a valid dictionary", value=found)
    return found


async def _file_of(request: Request) -> tuple[str, bytes]:
    form = await request.form()
    found = form.get("file")
    if not isinstance(found, UploadFile):
        raise invalid("body", "file", "Field required")
    return found.filename or "", await found.read()


def uptime(facility: FacilityState) -> float:
    """Return the seconds since the stand-in was created."""
    return time.time() - facility.began
