"""Converts errors to FirecREST's error bodies, or to problem details for the IRI API."""

from __future__ import annotations

import logging
import re
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from crestline.gateway.audit.notes import REFUSAL
from crestline.gateway.authorization.authorization import MissingScopeError
from crestline.gateway.iri.errors import problem
from crestline.gateway.iri.facility import PREFIX
from crestline.model import AuthenticationError, CrestlineError
from crestline.wire.errors import ErrorBody

_MISSING = re.compile(r"Missing required (\w+(?: parameter)?) '([^']+)'")
"""Litestar's message for a missing parameter."""

_log = logging.getLogger("crestline.gateway")


def handle_crestline_error(request: Request[Any, Any, Any], error: CrestlineError) -> Response[Any]:
    """Answer with a typed error of the gateway, whose class defines the status."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MissingScopeError):  # RFC 6750, section 3.1
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'
    if error.status >= 500:
        _log.warning("%s %s: %s %s", request.method, request.url.path, error, list(error.details))
    return _response(
        request,
        error,
        error.status,
        str(error),
        caused_by=list(error.details) or None,
        data=error.wire_data,
        headers=headers,
    )


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer an error of Litestar itself: unknown routes, methods, and malformed bodies and parameters."""
    if isinstance(error.__cause__, SerializationException):
        return _invalid(request, error, f"The body is not JSON: {error.detail}. Send one JSON object.", [])
    if isinstance(error, ValidationException):
        extra = error.extra if isinstance(error.extra, list) else []
        faults = [_field(request, each) for each in extra]
        # Litestar reports a path parameter of the router as an additional error beside every real one.
        fields = [field for field in faults if field["message"] != repr(field["name"])]
        what = "; ".join(f"{each['name']}: {each['message']}" for each in fields)
        if not what and (missing := _MISSING.match(error.detail)):
            what = f"{missing[2]}: this {missing[1]} is required"
            fields = [{"location": missing[1].removesuffix(" parameter"), "name": missing[2], "message": "required"}]
        return _invalid(request, error, what or "The body is absent or has another shape. See /docs for it.", fields)
    headers = {key: value for key, value in (error.headers or {}).items() if key.lower() in ("allow", "retry-after")}
    return _response(request, error, error.status_code, error.detail, headers=headers)


def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer 500 after an unexpected error. The log has the traceback, and the response the request id to find it."""
    request_id = request.scope.get("crestline_request_id", "")
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(request, error, 500, f"Internal error. Tell the operator the request id {request_id}.")


def _invalid(
    request: Request[Any, Any, Any], error: Exception, message: str, fields: list[dict[str, str]]
) -> Response[Any]:
    if _asks_iri(request):
        return _response(request, error, 400, message)
    body = ErrorBody(error_type="validation", message=message, data={"fields": fields}, user=_user(request))
    return Response(body, status_code=400)


def _response(
    request: Request[Any, Any, Any],
    error: Exception,
    status: int,
    message: str,
    *,
    caused_by: list[str] | None = None,
    data: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Response[Any]:
    request.scope[REFUSAL] = message  # type: ignore[literal-required]
    if _asks_iri(request):
        detail = "\n".join([message, *(caused_by or [])])
        base = request.app.state.runtime.public_url()
        return problem(base, f"{base}{request.url.path}", status, detail, headers or {}, error)
    body = ErrorBody(message=message, caused_by=caused_by, data=data, user=_user(request))
    return Response(body, status_code=status, headers=headers)


def _field(request: Request[Any, Any, Any], extra: Any) -> dict[str, str]:
    if not isinstance(extra, dict):
        return {"location": "", "name": "", "message": str(extra)}
    return {
        "location": str(getattr(extra.get("source"), "value", extra.get("source", "body"))),
        "name": _wire_name(request, str(extra.get("key", ""))),
        "message": str(extra.get("message", "")),
    }


def _wire_name(request: Request[Any, Any, Any], name: str) -> str:
    """Return the name of a handler's parameter in the request."""
    parameter = request.scope["route_handler"].parsed_fn_signature.parameters.get(name)
    return getattr(parameter and parameter.kwarg_definition, "name", None) or name


def _user(request: Request[Any, Any, Any]) -> str | None:
    return getattr(request.scope.get("user"), "username", None)


def _asks_iri(request: Request[Any, Any, Any]) -> bool:
    return str(request.scope["path"]).startswith(f"{PREFIX}/")
