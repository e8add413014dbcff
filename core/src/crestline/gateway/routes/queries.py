"""Query parameters as FirecREST's framework accepts them: names in both spellings, all forms of booleans and
numbers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from crestline.wire.codec import camelize

_WORDS = {b"yes": b"true", b"y": b"true", b"t": b"true", b"on": b"true"} | {
    b"no": b"false", b"n": b"false", b"f": b"false", b"off": b"false"
}  # fmt: skip
_NUMBER = re.compile(r"\s*([+-]?\d{1,99}(?:_\d{1,99}){,9})\s*", re.ASCII)


def normalize_query(app: ASGIApp) -> ASGIApp:
    """Return a middleware by which `show_hidden=on` means `showHidden=true`, and `lines=+1_000` means `lines=1000`."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if query := scope["query_string"]:
            types = _types(scope["route_handler"])
            scope["query_string"] = b"&".join(_normalize(each, types) for each in query.split(b"&"))
        await app(scope, receive, send)

    return serve


@cache
def _types(handler: BaseRouteHandler) -> dict[str, tuple[Any, ...]]:
    """Return the types of a route's parameters by their names in queries."""
    return {
        getattr(field.kwarg_definition, "name", None) or field.name: field.args
        if field.is_union
        else (field.annotation,)
        for field in handler.parsed_fn_signature.parameters.values()
    }


def _normalize(pair: bytes, types: dict[str, tuple[Any, ...]]) -> bytes:
    raw, equals, value = pair.partition(b"=")
    name = raw.decode("latin-1")
    if name not in types:
        name = camelize(name)
    wanted = types.get(name, ())
    if bool in wanted:
        value = _WORDS.get(value.lower(), value)
    elif int in wanted and (number := _NUMBER.fullmatch(unquote_plus(value.decode("latin-1")))):
        value = str(int(number.group(1))).encode()
    return name.encode("latin-1") + equals + value
