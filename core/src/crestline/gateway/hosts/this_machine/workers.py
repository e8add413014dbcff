"""The threads in which this machine's file system is asked, so that the event loop never waits for a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from crestline.gateway.hosts.this_machine.errors import worded

_QUICK_THREADS = 32
_LONG_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Two sets of threads: work on whole trees must not hold up what takes milliseconds.

    An OSError comes back as the model's error for it, worded as the named command would.
    """

    def __init__(self) -> None:
        self.quick_limiter = CapacityLimiter(_QUICK_THREADS)
        self._long_limiter = CapacityLimiter(_LONG_THREADS)

    async def quick(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what takes milliseconds, or one step of a stream."""
        with worded(command):
            return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self.quick_limiter)

    async def long(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may take minutes; it stops where it asks whether its caller was cancelled."""
        with worded(command):
            return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._long_limiter)

    async def iterate(self, command: str, items: Iterator[T]) -> AsyncIterator[T]:
        """The items of an iterator, each made in a thread."""
        end = object()
        try:
            while (item := await self.quick(command, next, items, end)) is not end:
                yield item  # type: ignore[misc]
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
