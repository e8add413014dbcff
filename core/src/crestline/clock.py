"""The clocks that the client reads, which a simulation replaces with virtual ones.

Sleeping does not use them: it follows the clock of the event loop.
"""

from __future__ import annotations

import time as _real
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_monotonic: ContextVar[Callable[[], float]] = ContextVar("crestline_monotonic", default=_real.monotonic)
_time: ContextVar[Callable[[], float]] = ContextVar("crestline_time", default=_real.time)


def monotonic() -> float:
    """Return seconds of a monotonic clock, to measure durations."""
    return _monotonic.get()()


def time() -> float:
    """Return seconds since the epoch, from this machine's clock."""
    return _time.get()()


@contextmanager
def use_clocks(monotonic: Callable[[], float], time: Callable[[], float]) -> Iterator[None]:
    """Replace the clocks within the block, and in tasks started there."""
    tokens = _monotonic.set(monotonic), _time.set(time)
    try:
        yield
    finally:
        _monotonic.reset(tokens[0])
        _time.reset(tokens[1])
