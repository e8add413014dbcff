"""Limits the responses that are in memory as a whole, by user, until the client has received them."""

from __future__ import annotations

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from crestline.gateway.user_shares import UserShares

_PIECE = 256 * 1024
"""Bytes that are sent at once, so that the server waits for a slow client."""


def shared_answers(app: ASGIApp) -> ASGIApp:
    """Return a middleware for routes whose responses can have megabytes that exist before the first byte is sent."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_pieces(message: Message) -> None:
            if message["type"] != "http.response.body" or len(message["body"]) <= _PIECE:
                await send(message)
                return
            body = memoryview(message["body"])
            for start in range(0, len(body), _PIECE):
                more = message["more_body"] or start + _PIECE < len(body)
                piece = bytes(body[start : start + _PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": more})

        shares: UserShares = scope["litestar_app"].state.runtime.answers
        async with shares.hold(scope["user"].username):
            await app(scope, receive, send_in_pieces)

    return serve
