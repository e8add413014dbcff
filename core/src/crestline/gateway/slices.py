"""Long lists, worked on in slices between which the event loop serves the others."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from crestline.wire.codec import encode

T = TypeVar("T")

SLICE = 1000
"""items, a few milliseconds of what is usually done with them"""


async def slices(items: Sequence[T], size: int = SLICE) -> AsyncIterator[Sequence[T]]:
    """All items, at most `size` at once."""
    if len(items) <= size:
        yield items
        return
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
        await asyncio.sleep(0)


async def in_order(items: Sequence[T], key: Callable[[T], Any]) -> list[T]:
    """As `sorted`."""
    runs = [sorted(some, key=key) async for some in slices(items)]
    if len(runs) == 1:
        return runs[0]
    merged = heapq.merge(*runs, key=key)
    ordered: list[T] = []
    while some := list(islice(merged, SLICE)):
        ordered += some
        await asyncio.sleep(0)
    return ordered


async def let_go(items: list[Any]) -> None:
    """Empty a list that holds the last references to what is in it: to free all of it at once takes its time too."""
    while items:
        del items[-SLICE:]
        await asyncio.sleep(0)


async def encode_list(name: str, items: Sequence[Any]) -> bytes:
    """The JSON of an object whose one field `name` is this list."""
    parts = [encode(some)[1:-1] async for some in slices(items)]
    return b'{"%s":[%s]}' % (name.encode(), b",".join(parts))
