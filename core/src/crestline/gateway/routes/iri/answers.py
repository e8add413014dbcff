"""Responses of the endpoints: JSON without unset fields."""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Response

from crestline.gateway.iri.facility import api_version
from crestline.gateway.requests import GatewayRequest
from crestline.gateway.routes.preencoded import PreencodedResponse
from crestline.wire.codec import encode

T = TypeVar("T")


def json(value: Any, *headers: tuple[bytes, bytes]) -> Response[Any]:
    """Return a response with status 200 and this value."""
    return PreencodedResponse.json(encode(value), *headers)


def version_of(request: GatewayRequest) -> int:
    """Return the version of the API in the request."""
    return api_version(str(request.scope["path"]))


def page(items: list[T], offset: int, limit: int) -> list[T]:
    """Return a page of a list."""
    return items[offset : offset + limit]
