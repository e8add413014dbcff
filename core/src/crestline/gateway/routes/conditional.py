"""Job lists that are sent only if they differ from the client's version, immediately or as soon as they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress

from litestar import Response

from crestline.gateway.job_events import entity_tag
from crestline.gateway.job_events.feeds import Watcher
from crestline.gateway.routes.entity_tags import matches
from crestline.gateway.routes.preencoded import PreencodedResponse, age_of, encode_list
from crestline.gateway.schedulers.base import JobList
from crestline.wire.compute import JobInfo, JobsAnswer
from crestline.wire.extensions import PARTIAL_HEADER

Answer = Response[JobsAnswer | None]


async def answer_conditionally(
    ask: Callable[[], Awaitable[list[JobInfo]]],
    known: str | None,
    wait: float,
    watching: Callable[[], AbstractAsyncContextManager[Watcher]],
) -> Answer:
    """Return the jobs with their `ETag`, or 304 if the client has them (RFC 9110, section 13.1.2).

    Args:
        ask: returns the current jobs.
        known: the client's `If-None-Match`.
        wait: seconds to wait for a change before a 304.
        watching: signals that the jobs may have changed.

    Raises:
        CrestlineError: as `ask`.
    """
    answer = await _answer(await ask(), known)
    if answer.status_code != 304 or not wait:
        return answer
    with suppress(TimeoutError):
        async with asyncio.timeout(wait), watching() as watcher:
            while answer.status_code == 304 and await watcher.next() is not None:
                answer = await _answer(await ask(), known)
    return answer


async def _answer(jobs: list[JobInfo], known: str | None) -> Answer:
    partial = jobs.partial if isinstance(jobs, JobList) else ""
    etag = await entity_tag(jobs, partial)
    headers = [(b"etag", etag.encode()), *age_of(jobs)]
    if matches(known, etag):
        return PreencodedResponse(304, headers, b"")
    if partial:
        headers.append((PARTIAL_HEADER.lower().encode(), partial.encode("ascii", "replace")))
    return PreencodedResponse.json(await encode_list("jobs", jobs), *headers)
