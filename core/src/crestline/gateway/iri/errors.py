"""Errors of the IRI API: additional ones, and the format of all of them (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar import Response

from crestline.model import InvalidRequestError

_TYPES = {
    400: "invalid-parameter",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    422: "invalid-parameter",
    500: "internal-error",
}


class UnprocessableError(InvalidRequestError):
    """The request is well formed, but asks for something that the gateway does not do."""

    status = 422


class InvalidFieldError(InvalidRequestError):
    """A parameter, or a field of the body, has an invalid value.

    Attributes:
        name: name of the parameter or field; empty: the whole.
        reason: why it is invalid.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name or 'The request'}: {reason}.", hint="Correct the request.")
        self.name = name
        self.reason = reason


def problem(
    base: str, instance: str, status: int, detail: str, headers: dict[str, str], error: Exception
) -> Response[dict[str, Any]]:
    """Return the response for an error.

    Args:
        base: URL of the gateway.
        instance: URL of the request.
    """
    body: dict[str, Any] = {
        "type": f"{base}/problems/{_TYPES.get(status, 'generic-error')}",
        "status": status,
        "title": HTTPStatus(status).phrase,
        "detail": detail,
        "instance": instance,
    }
    if isinstance(error, InvalidFieldError):
        body["invalid_params"] = [{"name": error.name, "reason": error.reason}]
    return Response(body, status_code=status, headers=headers, media_type="application/problem+json")
