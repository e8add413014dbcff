"""Waiting for what other processes do."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


def _pause(began: float, shortest: float) -> float:
    """Seconds to the next look: many looks at what takes long would cost more than they save."""
    return min(max(shortest, (time.monotonic() - began) / 20), 0.25)


async def until(condition: Callable[[], T | Awaitable[T]], seconds: float = 60.0, *, what: str = "") -> T:
    """What the condition answers, as soon as that is true; a test that waits in vain fails.

    Args:
        condition: a function or a coroutine function.
        seconds: to wait at most.
        what: names what did not happen.
    """
    began = time.monotonic()
    while True:
        found: Any = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found  # type: ignore[no-any-return]
        if time.monotonic() > began + seconds:
            raise TimeoutError(what or "what the test waits for did not happen")
        await anyio.sleep(_pause(began, 0.02))


async def until_answered(ask: Callable[[], Awaitable[T]], error: type[Exception], seconds: float = 120.0) -> T:
    """What `ask` answers, as soon as it does not raise this error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except error:
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(0.1)


def until_blocking(condition: Callable[[], T], seconds: float = 180.0, *, what: str = "") -> T:
    """As `until`, for tests without an event loop."""
    began = time.monotonic()
    while not (found := condition()):
        if time.monotonic() > began + seconds:
            raise TimeoutError(what or "what the test waits for did not happen")
        time.sleep(_pause(began, 0.02))
    return found
