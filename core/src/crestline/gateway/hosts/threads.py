"""Threads for work that would hold the event loop, with a share for each user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")


class ThreadShares:
    """So many threads, of which one user has a share at most: the others find the rest free."""

    def __init__(self, threads: int, share: int) -> None:
        self._threads = CapacityLimiter(threads)
        self._share = share
        self._shares: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    async def run(self, user: str, work: Callable[[], T]) -> T:
        """Call `work` in a thread, once the user's share and the whole have one free."""
        share = self._shares.get(user)
        if share is None:
            self._shares[user] = share = CapacityLimiter(self._share)
        async with share:
            return await to_thread.run_sync(work, limiter=self._threads)
