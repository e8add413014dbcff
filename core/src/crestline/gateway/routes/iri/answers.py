"""How the endpoints answer: JSON without what is not set."""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Response

from crestline.gateway.iri.facility import api_version
from crestline.gateway.requests import GatewayRequest
from crestline.gateway.routes.preencoded import PreencodedResponse
from crestline.wire.codec import encode

T = TypeVar("T")


def json(value: Any, *headers: tuple[bytes, bytes]) -> Response[Any]:
    """200 with this."""
    return PreencodedResponse.json(encode(value), *headers)


def version_of(request: GatewayRequest) -> int:
    """The version of the API that is asked."""
    return api_version(str(request.scope["path"]))


def page(items: list[T], offset: int, limit: int) -> list[T]:
    """A part of a list."""
    return items[offset : offset + limit]
