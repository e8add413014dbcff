"""How long a look at a whole queue may take: longer, the longer the queue turns out to be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from crestline.model import GatewayUnavailableError

_SLACK = 4.0
"""times as long as the last look, which the next may take"""

_MOST = 12.0
"""times the least limit"""


class TimeLimit:
    """A limit that follows what it limits.

    Args:
        least: seconds, as for any command.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self.seconds = least

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Learn from a look how long the next may take: a multiple of one that ended, twice as long after one that did
        not end in time.
        """
        began, allowed = time.monotonic(), self.seconds
        try:
            yield
        except GatewayUnavailableError:
            if time.monotonic() - began >= allowed:
                self.seconds = min(2 * allowed, _MOST * self._least)
            raise
        self.seconds = min(max(self._least, _SLACK * (time.monotonic() - began)), _MOST * self._least)
