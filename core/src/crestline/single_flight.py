"""Share the result of one call among all concurrent callers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """A cache for one event loop that runs at most one fetch per key at a time.

    Cancelling a caller does not cancel the fetch for the others. A failed fetch raises its error in every waiting
    caller and is not cached: the next caller tries again.
    """

    def __init__(self, *, ttl: float = math.inf, max_size: int | None = None) -> None:
        """Create an empty cache.

        Args:
            ttl: seconds that a result is kept, from the start of its fetch.
            max_size: number of entries beyond which finished ones are dropped.
        """
        self._ttl = ttl
        self._max_size = max_size
        self._tasks: dict[K, tuple[float, asyncio.Task[T]]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def get(self, key: K, fetch: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result for `key`, and fetch it if it is not cached. Raises the errors of `fetch`."""
        now = time.monotonic()
        started, task = self._tasks.get(key, (now, None))
        if task is None or (task.done() and (now - started >= self._ttl or _has_failed(task))):
            if self._max_size is not None and len(self._tasks) >= self._max_size:
                self._tasks = {each: kept for each, kept in self._tasks.items() if not kept[1].done()}
            task = asyncio.ensure_future(fetch())
            task.add_done_callback(_has_failed)  # retrieve the error, as every caller may have been cancelled
            self._tasks[key] = now, task
        return await asyncio.shield(task)

    async def drain(self) -> list[T]:
        """Remove all entries, wait for their fetches, and return the results of those that succeeded."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks if not _has_failed(task)]


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
