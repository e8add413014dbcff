"""Thousands of tasks that only wait are nothing for Python's garbage collector to look through again and again."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

_MANY = 100
"""waiting tasks"""
_REST = 5.0
"""seconds without any"""


class Standing:
    """Counts those who wait in this process; while they are many, the collector looks at everything only once.

    A full collection stops everything else in the process. In a triggerer it takes 0.3 s for what Airflow has imported,
    and 0.6 s more for 10,000 tasks, several times while these arrive. Here what one collection has looked at is out of
    the next one's sight. What waits is freed all the same when it has ended, since that needs no collector; whatever
    has cycles among it is collected when nobody has waited for some time.
    """

    def __init__(self) -> None:
        self._count = 0
        self._many = False
        self._rest: asyncio.TimerHandle | None = None

    def one_more(self) -> None:
        """Somebody begins to wait."""
        self._count += 1
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._count >= _MANY and not self._many:
            self._many = True
            gc.freeze()
            gc.callbacks.append(self._collected)

    def one_less(self) -> None:
        """Somebody has stopped. Called within an event loop."""
        self._count -= 1
        if self._count == 0 and self._many:
            self._rest = asyncio.get_running_loop().call_later(_REST, self._forget)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()

    def _forget(self) -> None:
        self._many = False
        self._rest = None
        gc.callbacks.remove(self._collected)
        gc.unfreeze()


standing = Standing()
"""of this process"""
