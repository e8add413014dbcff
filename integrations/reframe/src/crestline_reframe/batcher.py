"""Combines the needs of several jobs into one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from crestline.model import GatewayUnavailableError

T = TypeVar("T")

_APART = 2.0
"""Seconds; items at longer intervals are unrelated."""


class Batcher(Generic[T]):
    """Calls `process` with all items that arrived during the last call, or within a short time.

    Args:
        process: its error is raised to the callers of its items, after each item has been tried separately.
        quiet: seconds without another item after which a batch is complete, at the latest after `longest`. Both grow if
            items arrive at longer intervals, as on a busy machine.
        most: maximum number of items in one call.
        are_all: whether no further item can arrive; then `quiet` does not grow.
    """

    def __init__(
        self,
        process: Callable[[list[T]], Awaitable[None]],
        *,
        quiet: float,
        longest: float = 0.8,
        most: int = 1000,
        are_all: Callable[[list[T]], bool] = lambda _: False,
    ) -> None:
        self._process = process
        self._are_all = are_all
        self._quiet = quiet
        self._window = 0.0
        self._longest = longest
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._came = asyncio.Event()
        self._came_at = 0.0
        self._interval = 0.0
        """Seconds between two related items: the longest recent interval."""
        self._task: asyncio.Task[None] | None = None

    def set_batch_window(self, patience: float, longest: float) -> None:
        """Wait longer for further items, unless none can arrive: for calls that cost more."""
        self._window, self._longest = patience, longest

    async def add(self, item: T) -> None:
        """Return when the item has been processed."""
        now = asyncio.get_running_loop().time()
        if (since := now - self._came_at) < _APART:
            self._interval = max(since, 0.8 * self._interval)
        self._came_at = now
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            await self._until_quiet()
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            # callers that were cancelled need no result
            batch = [(item, done) for item, done in batch if not done.done()]
            error = await self._try([item for item, _ in batch])
            for item, done in batch:
                # An error of one item must not fail the others. An unresponsive gateway concerns all of them.
                if error is not None and len(batch) > 1 and not isinstance(error, GatewayUnavailableError):
                    _notify(done, await self._try([item]))
                else:
                    _notify(done, error)

    async def _try(self, items: list[T]) -> Exception | None:
        try:
            if items:
                await self._process(items)
        except Exception as error:
            return error
        return None

    async def _until_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        quiet = max(self._quiet, min(3 * self._interval, _APART / 2))
        end = loop.time() + max(self._longest, 3 * quiet)
        while len(self._waiting) < self._most and loop.time() < end:
            self._came.clear()
            are_all = self._are_all([item for item, _ in self._waiting])
            try:
                await asyncio.wait_for(self._came.wait(), self._quiet if are_all else quiet)
            except TimeoutError:
                if are_all or loop.time() - self._came_at >= self._window:
                    return


def _notify(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
