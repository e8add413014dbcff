"""Process long lists without blocking the event loop."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

_THREAD_SLICE = 250
"""Number of items that a thread processes between two pauses."""
_THREAD_PAUSE = 0.001
"""Seconds."""

SLICE = 1000
"""Number of items per slice. Typical work on a slice takes a few milliseconds."""


async def slices(items: Sequence[T], size: int = SLICE) -> AsyncIterator[Sequence[T]]:
    """Yield the items in slices of at most `size`, and yield to the event loop after each slice."""
    if len(items) <= size:
        yield items
        return
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
        await asyncio.sleep(0)


async def each(items: Iterable[T], size: int = SLICE) -> AsyncIterator[T]:
    """Yield a snapshot of the items one by one, and yield to the event loop after every `size` of them."""
    async for some in slices(list(items), size):
        for item in some:
            yield item


def in_thread(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in a worker thread, pausing briefly after every few hundred.

    The pauses let the event loop's thread run. Without them, it waits for the interpreter's switch interval whenever it
    has work.
    """
    for number, item in enumerate(items, start=1):
        yield item
        if number % _THREAD_SLICE == 0:
            time.sleep(_THREAD_PAUSE)


async def sort(items: Sequence[T], key: Callable[[T], Any]) -> list[T]:
    """Sort items like `sorted`, yielding to the event loop."""
    runs = [sorted(some, key=key) async for some in slices(items)]
    if len(runs) == 1:
        return runs[0]
    merged = heapq.merge(*runs, key=key)
    ordered: list[T] = []
    while some := list(islice(merged, SLICE)):
        ordered += some
        await asyncio.sleep(0)
    return ordered


async def clear(items: list[Any]) -> None:
    """Empty a list in slices, as freeing the last references to many items at once would block the event loop."""
    while items:
        del items[-SLICE:]
        await asyncio.sleep(0)
