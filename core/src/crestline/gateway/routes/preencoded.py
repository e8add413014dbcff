"""Responses whose body is already encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from litestar.types import Message, Receive, Scope, Send

from crestline.cooperative import slices
from crestline.gateway.schedulers.base import JobList
from crestline.wire.codec import encode


class PreencodedResponse(Response[Any]):
    """A response for status requests and long lists. Litestar's own encoding is a large part of the cost of the
    former, and would delay all requests for the latter."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code = status
        self._messages: tuple[Message, Message] = (
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )

    @classmethod
    def json(cls, body: bytes, *headers: tuple[bytes, bytes]) -> PreencodedResponse:
        """Return a response with status 200 and this JSON."""
        length = (b"content-length", b"%d" % len(body))
        return cls(200, [(b"content-type", b"application/json"), length, *headers], body)

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self._send

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)


def age_of(jobs: Sequence[Any]) -> list[tuple[bytes, bytes]]:
    """Return the header `Age` (RFC 9111, section 5.1) of a response made from these jobs; none below a second."""
    age = jobs.age if isinstance(jobs, JobList) else 0.0
    return [(b"age", b"%d" % min(age, 86400))] if age >= 1 else []


async def encode_list(name: str, items: Sequence[Any]) -> bytes:
    """Encode an object with the one field `name` and this list as JSON."""
    parts = [encode(some)[1:-1] async for some in slices(items)]
    return b'{"%s":[%s]}' % (name.encode(), b",".join(parts))
