"""Report the progress of long transfers in the task log."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 30.0
"""Minimum seconds between two messages."""


class TransferLog:
    """A progress callback for the client's `upload` and `download` that logs at most twice a minute.

    Args:
        log: called with each line.
        what: prefix of each line.
    """

    def __init__(self, log: Callable[[str], object], what: str) -> None:
        self._log = log
        self._what = what
        self._next = time.monotonic() + _EVERY

    def __call__(self, done: int, total: int, name: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            self._log(f"{self._what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB, at {name}")
