"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return as soon as the condition holds; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for did not happen")
        await anyio.sleep(0.02)


def until_blocking(condition: Callable[[], object], seconds: float = 180.0) -> None:
    """As `until`, for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for did not happen")
        time.sleep(0.05)
