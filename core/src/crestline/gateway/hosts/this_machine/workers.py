"""The threads in which this machine's file system is asked, so that the event loop never waits for a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

from crestline.gateway.hosts.this_machine.errors import worded

P = ParamSpec("P")
T = TypeVar("T")


class _Pool:
    """So many threads, of which one user has a share at most: the others find the rest free."""

    def __init__(self, threads: int, share: int) -> None:
        self._threads = CapacityLimiter(threads)
        self._share = share
        self._shares: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    async def run(self, user: str, work: Callable[[], T]) -> T:
        share = self._shares.get(user)
        if share is None:
            self._shares[user] = share = CapacityLimiter(self._share)
        async with share:
            return await to_thread.run_sync(work, limiter=self._threads)


class Pools:
    """The threads of one machine: work on whole trees must not hold up what takes milliseconds."""

    def __init__(self) -> None:
        self.quick = _Pool(32, 8)
        self.long = _Pool(12, 3)
        self.arriving = _Pool(16, 4)
        """for what waits for bytes from the network"""


class Workers:
    """The threads of one user.

    An OSError comes back as the model's error for it, worded as the named command would.
    """

    def __init__(self, pools: Pools, user: str) -> None:
        self._pools = pools
        self._user = user

    async def quick(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what takes milliseconds, or one step of a stream."""
        with worded(command):
            return await self._pools.quick.run(self._user, partial(work, *args, **kwargs))

    async def long(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may take minutes; it stops where it asks whether its caller was cancelled."""
        with worded(command):
            return await self._pools.long.run(self._user, partial(work, *args, **kwargs))

    async def arriving(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what takes as long as its bytes need to arrive."""
        with worded(command):
            return await self._pools.arriving.run(self._user, partial(work, *args, **kwargs))

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
