"""How many requests one client has under way, and which wait for a place among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_SLICE = 5.0
"""seconds after which a call that waits sees whether the gateway has answered others"""


class RequestGate:
    """At most `places` requests at a time, first come, first served.

    A call is not charged for its wait as long as the gateway answers others: in a burst of a thousand calls the last
    has as much time for its answer as the first. While no answer comes, the time of those that wait runs as well.

    Attributes:
        answers: answers of the gateway so far.
    """

    def __init__(self, places: int) -> None:
        self._semaphore = asyncio.Semaphore(places)
        self.answers = 0

    @asynccontextmanager
    async def place(self, deadline: asyncio.Timeout | None) -> AsyncIterator[None]:
        """Hold a place in the block.

        Args:
            deadline: that of the call, moved by the time for which it has waited.
        """
        if self._semaphore.locked():
            await self._wait(deadline)
        else:
            await self._semaphore.acquire()
        try:
            yield
        finally:
            self._semaphore.release()

    async def _wait(self, deadline: asyncio.Timeout | None) -> None:
        loop = asyncio.get_running_loop()
        end = deadline.when() if deadline is not None else None
        left = end - loop.time() if end is not None else 0.0
        acquiring = asyncio.ensure_future(self._semaphore.acquire())
        try:
            while not acquiring.done():
                answers = self.answers
                await asyncio.wait({acquiring}, timeout=_SLICE)
                if deadline is not None and end is not None and self.answers != answers:
                    deadline.reschedule(loop.time() + left)
        except asyncio.CancelledError:
            if not acquiring.cancel():
                self._semaphore.release()
            raise
