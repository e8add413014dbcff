"""Threads for blocking work, with a limit for each user."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from anyio import from_thread, to_thread

from crestline.gateway.user_shares import UserShares

T = TypeVar("T")

_abandoned: ContextVar[threading.Event | None] = ContextVar("_abandoned", default=None)


def check_cancelled() -> None:
    """Stop the work of a thread if its caller no longer waits.

    anyio's function with this name detects a cancelled scope, but not a cancelled task.

    Raises:
        asyncio.CancelledError: the caller was cancelled, by a scope or as a task.
    """
    from_thread.check_cancelled()
    abandoned = _abandoned.get()
    if abandoned is not None and abandoned.is_set():
        raise asyncio.CancelledError


class ThreadShares:
    """A pool of threads. One user can use only a share of it, so that others always find free threads."""

    def __init__(self, threads: int, share: int) -> None:
        self._shares = UserShares(threads, share)

    async def run(self, user: str, work: Callable[[], T]) -> T:
        """Call `work` in a thread once the user's share and the pool have a free one."""
        async with self._shares.of(user):
            abandoned = threading.Event()
            _abandoned.set(abandoned)  # the thread gets a copy of this context
            try:
                return await to_thread.run_sync(work, limiter=self._shares.places)
            except asyncio.CancelledError:
                abandoned.set()
                raise
