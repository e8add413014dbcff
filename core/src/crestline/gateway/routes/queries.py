"""Query parameters in both spellings."""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

from crestline.wire.codec import camelize


def camelize_query(app: ASGIApp) -> ASGIApp:
    """Middleware that lets `show_hidden=true` mean `showHidden=true`."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope["query_string"]
        if b"_" in query:
            scope["query_string"] = b"&".join(_camelize(each) for each in query.split(b"&"))
        await app(scope, receive, send)

    return serve


def _camelize(pair: bytes) -> bytes:
    name, equals, value = pair.partition(b"=")
    return camelize(name.decode("latin-1")).encode("latin-1") + equals + value
