"""A simulated process: a group of tasks that a kill ends together at any await."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any

from crestline import clock

_current: ContextVar[Process | None] = ContextVar("crestline_simulated_process", default=None)


class Process:
    """A process of a program that uses the client.

    A killed process has no further effects: its tasks are cancelled and its requests are not sent. Requests in flight
    continue.

    Args:
        name: the name of the process in the time line.
        kill_at: the number of the step between two awaits at which the process dies. None if it survives.
        kill_in: the number of the request during which it dies.
        epoch: seconds since 1970 on this process's clock at loop time zero.
    """

    def __init__(
        self, name: str, *, kill_at: int | None = None, kill_in: int | None = None, epoch: float = 0.0
    ) -> None:
        self.name = name
        self.steps = 0
        self.is_alive = True
        self._kill_at = kill_at
        self.kill_in = kill_in
        self._epoch = epoch
        self._tasks: dict[asyncio.Task[Any], None] = {}

    async def run(self, main: Coroutine[Any, Any, None]) -> bool:
        """Run a program in this process. Returns whether it finished without being killed."""
        loop = asyncio.get_running_loop()
        token = _current.set(self)
        try:
            with clock.use_clocks(loop.time, lambda: self._epoch + loop.time()):
                task = loop.create_task(main)
        finally:
            _current.reset(token)
        await asyncio.wait([task])
        if not self.is_alive:
            return False
        task.result()
        return True

    def kill(self) -> None:
        """End the process like SIGKILL."""
        self.is_alive = False
        for task in list(self._tasks):
            task.cancel()

    @property
    def unfinished(self) -> list[str]:
        """The coroutines of unfinished tasks."""
        coroutines = (task.get_coro() for task in self._tasks if not task.done())
        return [each.name if isinstance(each, _Steps) else str(each) for each in coroutines]

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._kill_at:
            self.kill()
        task = asyncio.current_task()
        if task is not None and task not in self._tasks:
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
            if not self.is_alive:
                task.cancel()


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine that notifies its process of each step."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], process: Process) -> None:
        self._coroutine = coroutine
        self._process = process

    @property
    def name(self) -> str:
        """The qualified name of the wrapped coroutine."""
        return str(getattr(self._coroutine, "__qualname__", self._coroutine))

    def send(self, value: Any) -> Any:
        self._process._step()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


def is_of_killed(task: Any) -> bool:
    """Whether this is a task of a killed process."""
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    return isinstance(coroutine, _Steps) and not coroutine._process.is_alive


def in_process(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """Assign a new task to the process that creates it."""
    process = _current.get()
    return _Steps(coroutine, process) if process is not None else coroutine
