"""Answers that are bytes already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from litestar.types import Message, Receive, Scope, Send

from crestline.cooperative import slices
from crestline.gateway.schedulers.base import JobList
from crestline.wire.codec import encode


class PreencodedResponse(Response[Any]):
    """What status reads and long lists are answered with: Litestar's own way from content to bytes is a good part of
    the work of the one, and would delay all requests with the other."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code = status
        self._messages: tuple[Message, Message] = (
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )

    @classmethod
    def json(cls, body: bytes, *headers: tuple[bytes, bytes]) -> PreencodedResponse:
        """200 with this JSON."""
        length = (b"content-length", b"%d" % len(body))
        return cls(200, [(b"content-type", b"application/json"), length, *headers], body)

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self._send

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)


def age_of(jobs: Sequence[Any]) -> list[tuple[bytes, bytes]]:
    """The header `Age` (RFC 9111, section 5.1) of an answer that is made from these jobs; none below a second."""
    age = jobs.age if isinstance(jobs, JobList) else 0.0
    return [(b"age", b"%d" % min(age, 86400))] if age >= 1 else []


async def encode_list(name: str, items: Sequence[Any]) -> bytes:
    """Encode an object whose one field `name` is this list as JSON."""
    parts = [encode(some)[1:-1] async for some in slices(items)]
    return b'{"%s":[%s]}' % (name.encode(), b",".join(parts))
