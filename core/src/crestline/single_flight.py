"""Results that one call fetches for all callers that ask meanwhile."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """A cache by key for one event loop, in which each key is fetched by one task at a time.

    A caller that is cancelled leaves the task to the others. A failed fetch is raised for all who waited for it and
    not kept: the next caller tries again.
    """

    def __init__(self, *, ttl: float = math.inf, max_size: int | None = None) -> None:
        """Prepare an empty cache.

        Args:
            ttl: seconds after the start of a fetch for which its result is kept.
            max_size: entries beyond which the finished ones are dropped.
        """
        self._ttl = ttl
        self._max_size = max_size
        self._tasks: dict[K, tuple[float, asyncio.Task[T]]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def get(self, key: K, fetch: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result for `key`, fetched if none is kept. Raises what `fetch` raises."""
        now = time.monotonic()
        started, task = self._tasks.get(key, (now, None))
        if task is None or (task.done() and (now - started >= self._ttl or _has_failed(task))):
            if self._max_size is not None and len(self._tasks) >= self._max_size:
                self._tasks = {each: kept for each, kept in self._tasks.items() if not kept[1].done()}
            task = asyncio.ensure_future(fetch())
            task.add_done_callback(_has_failed)  # every caller may have been cancelled
            self._tasks[key] = now, task
        return await asyncio.shield(task)

    async def drain(self) -> list[T]:
        """Forget all entries; return the results of those that have one, once their fetches are done."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks if not _has_failed(task)]


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
