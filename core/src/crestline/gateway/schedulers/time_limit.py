"""Time limit of a query of the whole queue, which grows with the queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from crestline.model import GatewayUnavailableError

_SLACK = 4.0
"""Maximum duration of the next query, as a multiple of the last one."""

_MOST = 12.0
"""Maximum limit, as a multiple of the least one."""


class TimeLimit:
    """A time limit that follows the measured durations.

    Args:
        least: minimum limit in seconds.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self.seconds = least

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Measure a query and set the limit of the next one: a multiple of its duration, or twice the limit if it
        did not end in time."""
        began, allowed = time.monotonic(), self.seconds
        try:
            yield
        except GatewayUnavailableError:
            if time.monotonic() - began >= allowed:
                self.seconds = min(2 * allowed, _MOST * self._least)
            raise
        self.seconds = min(max(self._least, _SLACK * (time.monotonic() - began)), _MOST * self._least)
