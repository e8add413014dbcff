"""Run many coroutines with bounded concurrency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(work: Callable[[T], Awaitable[R]], items: Iterable[T], limit: int) -> list[R]:
    """Call `work` for each item, at most `limit` at a time, and return the results in the order of the items.

    The first error cancels the other calls and is raised itself, not in an exception group.
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
