"""The clocks that the client reads, so that a simulation can put virtual ones in their place.

Waiting needs nothing of the kind: it goes by the event loop's own time.
"""

from __future__ import annotations

import time as _real
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_monotonic: ContextVar[Callable[[], float]] = ContextVar("crestline_monotonic", default=_real.monotonic)
_time: ContextVar[Callable[[], float]] = ContextVar("crestline_time", default=_real.time)


def monotonic() -> float:
    """Return seconds of a clock that never goes back, for durations."""
    return _monotonic.get()()


def time() -> float:
    """Return seconds since the epoch, as this machine believes."""
    return _time.get()()


@contextmanager
def use_clocks(monotonic: Callable[[], float], time: Callable[[], float]) -> Iterator[None]:
    """Read these clocks in the block, and in the tasks that it starts."""
    tokens = _monotonic.set(monotonic), _time.set(time)
    try:
        yield
    finally:
        _monotonic.reset(tokens[0])
        _time.reset(tokens[1])
