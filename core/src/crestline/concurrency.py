"""Many calls, of which a limited number runs at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(work: Callable[[T], Awaitable[R]], items: Iterable[T], limit: int) -> list[R]:
    """What `work` returns for each item, in their order; at most `limit` calls run at a time.

    The first error ends the other calls and is raised as it is, outside any exception group.
    """
    gate = anyio.Semaphore(limit)
    found: dict[int, R] = {}

    async def call(number: int, item: T) -> None:
        async with gate:
            found[number] = await work(item)

    try:
        async with anyio.create_task_group() as group:
            for number, item in enumerate(items):
                group.start_soon(call, number, item)
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    return [found[number] for number in range(len(found))]
