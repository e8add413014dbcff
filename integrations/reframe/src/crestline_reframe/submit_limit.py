"""How many jobs of a run may be submitted at the same time: asked, or learned from the scheduler's refusals."""

from __future__ import annotations

import asyncio
from collections import deque

_MIN_INTERVAL, _MAX_INTERVAL = 2.0, 60.0
"""seconds after which one more job is tried: the first time after a refusal, and at most"""


class SubmitLimit:
    """Admits jobs as long as the scheduler takes them; after a refusal, as many as it had taken.

    From time to time one more is tried, at growing intervals, as others of the user's jobs may have ended.
    """

    def __init__(self, min_interval: float = _MIN_INTERVAL, max_interval: float = _MAX_INTERVAL) -> None:
        self._min_interval, self._max_interval = min_interval, max_interval
        self._interval = min_interval
        self._most: int | None = None
        """jobs that the scheduler takes; None: no limit is known"""
        self._admitted = 0
        """jobs that were submitted and have not ended, or are about to be submitted"""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._probe: asyncio.TimerHandle | None = None
        self._is_probing = False

    def set_most(self, most: int | None) -> None:
        """Admit that many jobs at first; None: as many as come."""
        self._most = most

    async def acquire(self) -> None:
        """Wait until a job may be submitted, the one that waits longest first."""
        if self._has_room() and not self._waiting:
            self._admitted += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._probe is None:
            self._schedule_probe()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Count a job that has ended, or that was not submitted after all."""
        self._admitted -= 1
        self._admit()

    def accepted(self) -> None:
        """Count a job that the scheduler has taken."""
        if self._is_probing:
            self._is_probing, self._interval = False, self._min_interval
            self._schedule_probe()

    def refused(self, count: int) -> None:
        """Count `count` jobs that the scheduler has refused at once: what it has taken besides them is the limit."""
        self._is_probing = False
        self._admitted -= count
        # If it has taken none of this run, the user's other jobs fill the limit, or it is smaller than one array.
        self._most = self._admitted or count // 2
        self._admit()

    def _has_room(self) -> bool:
        return self._most is None or self._admitted < self._most

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self._admitted += 1
                turn.set_result(None)

    def _schedule_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if self._waiting:
            self._probe = asyncio.get_running_loop().call_later(self._interval, self._try_one_more)

    def _try_one_more(self) -> None:
        self._is_probing = True
        self._interval = min(2 * self._interval, self._max_interval)
        self._most = max(self._most or 0, self._admitted) + 1
        self._admit()
        self._schedule_probe()
