"""Job lists that are sent only when they differ from what the client has, at once or as soon as they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from litestar import Response
from litestar.types import Message, Receive, Scope, Send

from crestline.gateway.job_events import entity_tag
from crestline.gateway.job_events.feeds import Watcher
from crestline.gateway.schedulers.base import JobList
from crestline.wire.codec import encode
from crestline.wire.compute import JobInfo, JobsAnswer
from crestline.wire.extensions import PARTIAL_HEADER

Answer = Response[JobsAnswer | None]


async def answer_conditionally(
    ask: Callable[[], Awaitable[list[JobInfo]]],
    known: str | None,
    wait: float,
    watching: Callable[[], AbstractAsyncContextManager[Watcher]],
) -> Answer:
    """The jobs with their `ETag`; 304 where the client has them (RFC 9110, section 13.1.2).

    Args:
        ask: gives the jobs as they are.
        known: the client's `If-None-Match`.
        wait: seconds to wait for a change before a 304.
        watching: tells when it is worth asking again.

    Raises:
        CrestlineError: as `ask`.
    """
    answer = _answer(await ask(), known)
    if answer.status_code != 304 or not wait:
        return answer
    with suppress(TimeoutError):
        async with asyncio.timeout(wait), watching() as watcher:
            while answer.status_code == 304 and await watcher.take() is not None:
                answer = _answer(await ask(), known)
    return answer


class _Ready(Answer):
    """An answer that is bytes already. Status reads are most of a gateway's work, and Litestar's own way from content
    to bytes is a good part of one."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code = status
        self._messages: tuple[Message, Message] = (
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self._send

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)


def _answer(jobs: list[JobInfo], known: str | None) -> Answer:
    partial = jobs.partial if isinstance(jobs, JobList) else ""
    tag = entity_tag(jobs, partial)
    headers = [(b"etag", tag.encode())]
    if known is not None and _matches(known, tag):
        return _Ready(304, headers, b"")
    if partial:
        headers.append((PARTIAL_HEADER.lower().encode(), partial.encode("ascii", "replace")))
    body = encode(JobsAnswer(jobs=jobs))
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return _Ready(200, headers, body)


def _matches(known: str, tag: str) -> bool:
    """Weak comparison; `*` stands for every tag."""
    opaque = tag.removeprefix("W/")
    return known.strip() == "*" or any(each.strip().removeprefix("W/") == opaque for each in known.split(","))
