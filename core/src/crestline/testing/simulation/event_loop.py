"""An event loop on virtual time. If nothing is ready, its clock jumps to the next timer.

`looptime` and `aiotools.VirtualClock` do the same for tests, but do not fit here: the first spends 42 rounds of the
loop on each jump and mixes in real time. Both spin forever if everything waits and no timer is left, and neither makes
the iteration order of sets reproducible. Trio's autojump clock requires code that runs on Trio.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from itertools import count
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.to_thread

BEGIN = 1000.0
"""Loop time at the start of a simulation, in seconds."""
_LONGEST_WORK = 30.0
"""Maximum real seconds to wait for a worker thread."""


class EndlessWaitError(RuntimeError):
    """Every task waits, and no timer is left."""


class TimeLimitError(RuntimeError):
    """The virtual time exceeds its limit."""


class _Future(asyncio.Future[Any]):
    """A future whose position in a set does not depend on its address."""

    _number = 0

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Task(asyncio.Task[Any]):
    _number = 0

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never blocks."""

    jump: Callable[[float], None]
    wait_for_thread: Callable[[], bool]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout != 0 and self.wait_for_thread():
            return []
        if timeout is None:
            raise EndlessWaitError("Every task waits, and no timer is left.")
        if timeout > 0:
            self.jump(timeout)
        return []


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An event loop without wall clock and sockets.

    Functions submitted to an executor run immediately in the loop's own thread. While a thread of anyio works,
    everything else waits, so that the order of events does not depend on the thread's speed.

    Args:
        limit: seconds of virtual time after which the loop raises an error.
        wrap: wraps the coroutine of each new task, called in the context of the task's creator.
    """

    def __init__(
        self,
        limit: float = 86400.0,
        wrap: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]] | None = None,
    ) -> None:
        self._now = BEGIN
        self._end = BEGIN + limit
        self._numbers = count(1)
        selector = _JumpingSelector()
        selector.jump = self._jump
        selector.wait_for_thread = self._wait_for_thread
        self._posted: SimpleQueue[asyncio.Handle] = SimpleQueue()
        self._threads: anyio.CapacityLimiter | None = None
        super().__init__(selector)
        self._wrap = wrap
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        future = _Future(loop=self)
        future._number = next(self._numbers)
        return future

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() == self._thread_id:  # type: ignore[attr-defined]
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._posted.put(handle)
        return handle

    def limit_threads(self) -> None:
        """Limit anyio to one thread. Call it in the loop, before anything else."""
        self._threads = anyio.to_thread.current_default_thread_limiter()
        self._threads.total_tokens = 1

    def _wait_for_thread(self) -> bool:
        """Wait for the next callback of the running worker thread, if there is one. Returns whether there was."""
        if self._threads is None or not self._threads.borrowed_tokens:
            return False
        self._ready.append(self._posted.get(timeout=_LONGEST_WORK))  # type: ignore[attr-defined]
        return True

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: Context | None = None,
        **more: Any,
    ) -> asyncio.Task[Any]:
        if self._wrap is not None:
            coroutine = self._wrap(coroutine)  # type: ignore[arg-type]
        _Task._number = next(self._numbers)  # the constructor adds the task to a set
        task = _Task(coroutine, loop=loop, context=context, **more)
        task._number = _Task._number
        return task

    def _jump(self, seconds: float) -> None:
        self._now += seconds
        if self._now > self._end:
            raise TimeLimitError(f"After {self._end - BEGIN:g} s of virtual time some tasks still run.")
