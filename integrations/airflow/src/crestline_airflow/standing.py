"""Thousands of tasks that only wait are nothing for Python's garbage collector to look through again and again."""

from __future__ import annotations

import gc

_FIRST = 100
_EVERY = 1000
"""waiting tasks between two times; a thousand of them take the collector some 50 ms"""


class Standing:
    """Counts those who wait in this process, and takes what they have out of the collector's sight when they are many.

    A full collection stops everything else in the process. In a triggerer it takes 0.3 s for what Airflow has imported,
    and 0.6 s more for 10,000 tasks, several times while these arrive. What waits is freed all the same when it has
    ended, since that needs no collector; whatever has cycles among it is collected when nobody waits any more.
    """

    def __init__(self) -> None:
        self._count = 0
        self._next = _FIRST

    def one_more(self) -> None:
        """Somebody begins to wait."""
        self._count += 1
        if self._count >= self._next:
            self._next = self._count + _EVERY
            gc.freeze()

    def one_less(self) -> None:
        """Somebody has stopped."""
        self._count -= 1
        if self._count == 0 and self._next > _FIRST:
            self._next = _FIRST
            gc.unfreeze()


standing = Standing()
"""of this process"""
