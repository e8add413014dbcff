"""Background operations on files and their results, each visible to its user only."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from anyio import CancelScope, fail_after

from crestline.model import CrestlineError, GatewayUnavailableError, NotFoundError, RateLimitedError
from crestline.wire.codec import encode
from crestline.wire.iri import TaskState

logger = logging.getLogger(__name__)

MOST_WAITING = 100
"""Maximum number of running and waiting tasks of one user."""
MOST_KEPT = 1000
"""Maximum number of tasks of one user."""
MOST_BYTES = 64 * 1024**2
"""Maximum size in bytes of one user's ended tasks."""
MOST_BYTES_IN_ALL = 512 * 1024**2
LARGEST_RESULT = 16 * 1024**2
"""Maximum size in bytes of a result."""
TTL = 3600.0
"""Seconds for which a task is kept after its end."""
_AT_ONCE = 4
"""Maximum number of tasks of one user that run at the same time."""
_RETRY_AFTER = 5.0
_CANCEL_TIMEOUT = 5.0
"""Seconds for which a cancellation waits for the end of the work, which may hang in a file system."""
_CHECK_INTERVAL = 60.0
"""Seconds after which the permission of a task's user is checked again."""

Allow = Callable[[], Awaitable[None]]
"""Raises an error if the user of a task may no longer do it."""


class TaskCommand(msgspec.Struct):
    """The operation of a task."""

    router: str
    command: str
    args: dict[str, Any]


class FileTask:
    """A task.

    Attributes:
        result: result as JSON; None until the task has ended.
    """

    def __init__(self, command: TaskCommand) -> None:
        self.id = str(uuid.uuid4())
        self.command = command
        self._command_size = len(encode(command))
        self.status = TaskState.PENDING
        self.result: bytes | None = None
        self.was_read = False
        self.work: asyncio.Task[None] | None = None
        self.scope = CancelScope()
        """Scope of the work. A hung thread keeps its slot, which cancelling the asyncio task would release."""
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended."""
        return self.status not in (TaskState.PENDING, TaskState.ACTIVE)

    @property
    def size(self) -> int:
        """Size in bytes of the kept data."""
        return len(self.result or b"") + self._command_size

    def show(self, *, with_result: bool = True) -> bytes:
        shown: dict[str, Any] = {"id": self.id, "status": self.status, "command": self.command}
        if with_result and self.result is not None:
            shown["result"] = msgspec.Raw(self.result)
        return encode(shown)


class _Owner:
    """The tasks of one user, the oldest first."""

    def __init__(self) -> None:
        self.tasks: OrderedDict[str, FileTask] = OrderedDict()
        self.gate = asyncio.Semaphore(_AT_ONCE)
        self.bytes = 0


class FileTasks:
    """All tasks of one gateway, in memory, with limits of number, size and age for each user, and of size for all."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._bytes = 0

    async def stop(self) -> None:
        """Cancel running tasks, and delete all."""
        tasks = [task for owner in self._owners.values() for task in owner.tasks.values()]
        for task in tasks:
            task.scope.cancel()
        if works := [task.work for task in tasks if task.work is not None]:
            await asyncio.wait(works, timeout=_CANCEL_TIMEOUT)
        for task in tasks:
            if task.expiry is not None:
                task.expiry.cancel()
        self._owners.clear()

    def begin(
        self,
        username: str,
        command: TaskCommand,
        run: Callable[[], Awaitable[bytes]],
        *,
        timeout: float,
        allow: Allow | None = None,
    ) -> FileTask:
        """Run an operation in the background.

        Args:
            username: owner of the task.
            command: description of the operation.
            run: carries it out and returns the result as JSON.
            allow: called every minute, and before an operation that waited; its error ends the operation.
            timeout: seconds for the operation, without the time in which it waits for other tasks of the user.

        Raises:
            RateLimitedError: the user has too many tasks that have not ended.
        """
        owner = self._owner(username)
        task = FileTask(command)
        owner.tasks[task.id] = task
        if allow is not None:
            run = partial(_while_allowed, run, allow, time.monotonic())
        task.work = asyncio.create_task(_run(task, owner.gate, run, timeout), name="iri-task")
        task.work.add_done_callback(lambda _: self._end(username, task))
        return task

    async def run(self, username: str, command: TaskCommand, run: Callable[[], Awaitable[bytes]]) -> FileTask:
        """Carry out an operation that needs its request, and return its task. An error of the operation becomes its
        result.

        Raises:
            RateLimitedError: the user has too many tasks that have not ended.
        """
        owner = self._owner(username)
        task = FileTask(command)
        owner.tasks[task.id] = task
        try:
            await _complete(task, run)
        finally:
            self._end(username, task)
        return task

    def get(self, username: str, task_id: str) -> FileTask:
        """Return a task of the user.

        Raises:
            NotFoundError: the user has no task with this id.
        """
        owner = self._owners.get(username)
        task = owner.tasks.get(task_id) if owner is not None else None
        if task is None:
            raise NotFoundError("Task not found", hint="Tasks are remembered for an hour after their end.")
        return task

    def list(self, username: str) -> list[FileTask]:
        """Return all tasks of the user, the oldest first."""
        owner = self._owners.get(username)
        return list(owner.tasks.values()) if owner is not None else []

    async def cancel(self, username: str, task_id: str) -> None:
        """Cancel a task. A task that has ended does not change.

        Raises:
            NotFoundError: the user has no task with this id.
        """
        task = self.get(username, task_id)
        if task.work is not None and not task.has_ended:
            task.scope.cancel()
            await asyncio.wait([task.work], timeout=_CANCEL_TIMEOUT)

    def _owner(self, username: str) -> _Owner:
        """Return the user's tasks, with room for one more."""
        owner = self._owners.setdefault(username, _Owner())
        waiting = sum(not task.has_ended for task in owner.tasks.values())
        if waiting >= MOST_WAITING:
            raise RateLimitedError(
                f"{waiting} operations on files are under way.",
                hint="Wait until some have ended.",
                retry_after=_RETRY_AFTER,
            )
        while len(owner.tasks) >= MOST_KEPT:
            self._forget(username, _eviction_candidate(owner))
        return owner

    def _end(self, username: str, task: FileTask) -> None:
        if not task.has_ended:
            task.status = TaskState.CANCELED
        task.work = None
        owner = self._owners.get(username)
        if owner is None or task.id not in owner.tasks:
            return
        owner.bytes += task.size
        self._bytes += task.size
        task.expiry = asyncio.get_running_loop().call_later(TTL, self._forget, username, task)
        while owner.bytes > MOST_BYTES:
            self._forget(username, _eviction_candidate(owner))
        while self._bytes > MOST_BYTES_IN_ALL:
            heaviest = max(self._owners, key=lambda name: self._owners[name].bytes)
            self._forget(heaviest, _eviction_candidate(self._owners[heaviest]))

    def _forget(self, username: str, task: FileTask) -> None:
        owner = self._owners.get(username)
        if owner is None or owner.tasks.pop(task.id, None) is None:
            return
        if task.expiry is not None:
            task.expiry.cancel()
        owner.bytes -= task.size
        self._bytes -= task.size
        if not owner.tasks:
            del self._owners[username]


async def _run(task: FileTask, gate: asyncio.Semaphore, run: Callable[[], Awaitable[bytes]], timeout: float) -> None:
    with task.scope:
        async with gate:
            task.status = TaskState.ACTIVE
            try:
                with fail_after(timeout):
                    await _attempt(task, run)
            except TimeoutError:
                _fail(task, f"It has not ended within {timeout:g} s.")


async def _attempt(task: FileTask, run: Callable[[], Awaitable[bytes]]) -> None:
    """Carry out a background operation. An unexpected error is logged, because no request is left to receive it."""
    try:
        await _complete(task, run)
    except Exception:
        logger.exception("task %s failed (%s)", task.id, task.command.command)
        _fail(task, f"Internal error. Tell the operator the id {task.id}.")


async def _while_allowed(run: Callable[[], Awaitable[bytes]], allow: Allow, allowed: float) -> bytes:
    """Do the work as long as its user has the permission.

    Args:
        run: the work.
        allow: checks the permission.
        allowed: reading of `time.monotonic()` at the last successful check.
    """
    refusals: list[Exception] = []
    scope = CancelScope()

    async def watch() -> None:
        while not refusals:
            await asyncio.sleep(_CHECK_INTERVAL)
            try:
                await allow()
            except GatewayUnavailableError:  # the permission cannot be checked at present: the next check decides
                continue
            except Exception as error:  # raised below, by the work that it ends
                refusals.append(error)
                scope.cancel()

    if time.monotonic() - allowed >= _CHECK_INTERVAL:  # it has waited for other tasks of the user
        await allow()
    watcher = asyncio.create_task(watch(), name="iri-task-check")
    try:
        with scope:
            return await run()
    finally:
        watcher.cancel()
    raise refusals[0]


async def _complete(task: FileTask, run: Callable[[], Awaitable[bytes]]) -> None:
    try:
        result = await run()
    except CrestlineError as error:
        _fail(task, str(error))
        return
    if len(result) > LARGEST_RESULT:
        _fail(task, f"The result is too large: it has {len(result)} bytes, {LARGEST_RESULT} are allowed.")
    else:
        task.result, task.status = result, TaskState.COMPLETED


def _eviction_candidate(owner: _Owner) -> FileTask:
    """Return the task to delete first: one whose result was fetched, otherwise the oldest that has ended."""
    ended = [task for task in owner.tasks.values() if task.has_ended]
    return next((task for task in ended if task.was_read), ended[0])


def _fail(task: FileTask, text: str) -> None:
    task.status = TaskState.FAILED
    task.result = encode({"output": f"Error: {text}"})
