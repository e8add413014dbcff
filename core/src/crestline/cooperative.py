"""Work on long lists that yields to the event loop in between."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

_THREAD_SLICE = 250
"""items that a thread works on between two pauses"""
_THREAD_PAUSE = 0.001
"""seconds"""

SLICE = 1000
"""items, a few milliseconds of what is usually done with them"""


async def slices(items: Sequence[T], size: int = SLICE) -> AsyncIterator[Sequence[T]]:
    """Yield all items, at most `size` at once."""
    if len(items) <= size:
        yield items
        return
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
        await asyncio.sleep(0)


async def each(items: Iterable[T], size: int = SLICE) -> AsyncIterator[T]:
    """Yield the items that there are now one by one; the event loop gets its turn after every `size` of them."""
    async for some in slices(list(items), size):
        for item in some:
            yield item


def in_thread(items: Iterable[T]) -> Iterator[T]:
    """Yield all items, within a thread; the event loop's thread gets its turn at once after every few hundred of them.

    Else it would wait for the interpreter's switch interval each time that it has something to do.
    """
    for number, item in enumerate(items, start=1):
        yield item
        if number % _THREAD_SLICE == 0:
            time.sleep(_THREAD_PAUSE)


async def sort(items: Sequence[T], key: Callable[[T], Any]) -> list[T]:
    """Sort as `sorted` does."""
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
    """Empty a list that holds the last references to what is in it: freeing all of it at once takes its time too."""
    while items:
        del items[-SLICE:]
        await asyncio.sleep(0)
