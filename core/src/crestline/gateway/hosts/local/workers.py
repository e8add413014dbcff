"""Threads for file system calls of this machine, so that the event loop never waits for a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

from crestline.gateway.hosts.local.errors import worded
from crestline.gateway.hosts.threads import ThreadShares

P = ParamSpec("P")
T = TypeVar("T")


class Pools:
    """The threads of one machine. Work on whole trees must not delay calls of milliseconds."""

    def __init__(self) -> None:
        self.quick = ThreadShares(32, 8)
        self.long = ThreadShares(12, 3)
        self.arriving = ThreadShares(16, 4)
        """Threads that wait for bytes from the network."""


class Workers:
    """The threads of one user.

    An OSError is translated into an error of the model, with the text of the named command.
    """

    def __init__(self, pools: Pools, user: str) -> None:
        self._pools = pools
        self._user = user

    async def quick(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call of milliseconds, or one step of a stream."""
        with worded(command):
            return await self._pools.quick.run(self._user, partial(work, *args, **kwargs))

    async def long(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call of up to minutes. It stops where it checks whether its caller was cancelled."""
        with worded(command):
            return await self._pools.long.run(self._user, partial(work, *args, **kwargs))

    async def arriving(self, command: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that lasts as long as its bytes need to arrive."""
        with worded(command):
            return await self._pools.arriving.run(self._user, partial(work, *args, **kwargs))

    async def iterate(self, command: str, items: Iterator[T]) -> AsyncIterator[T]:
        """Yield the items of an iterator, each created in a thread."""
        end = object()
        try:
            while (item := await self.quick(command, next, items, end)) is not end:
                yield item  # type: ignore[misc]
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
