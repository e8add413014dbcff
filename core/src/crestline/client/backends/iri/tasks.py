"""Waiting for tasks: every operation on files is one, and one loop asks for all of a connection's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from crestline.client.backends.iri.calls import Calls
from crestline.client.backends.messages import UnfinishedError
from crestline.client.backends.transport import RetryMode
from crestline.concurrency import map_concurrently
from crestline.model import CrestlineError, GatewayUnavailableError, NotFoundError, RateLimitedError
from crestline.wire.iri import Task, TaskState

_SHORTEST = 0.25
"""seconds before the first look at a task"""
_LONGEST = 5.0
"""seconds between two looks at a task"""
_GROWTH = 0.5
"""the interval is this share of the task's age"""
_AT_ONCE = 4
_MISSING_LOOKS = 3
"""looks that have to miss a task before it counts as forgotten"""


@dataclass(eq=False)
class _Waiting:
    task_id: str
    ended: asyncio.Future[Task]
    started_at: float = field(default_factory=time.monotonic)
    next_poll: float = field(default_factory=lambda: time.monotonic() + _SHORTEST)
    missing: int = 0


class TaskMonitor:
    """The one watcher of a connection's tasks. A task's answer carries its result, so each is asked for by its id.

    Attributes:
        requests: looks at tasks so far.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._waiting: set[_Waiting] = set()
        self._loop: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self.requests = 0

    async def wait(self, task_id: str, timeout: float) -> Task:
        """The task once it has ended.

        Args:
            timeout: seconds.

        Raises:
            UnfinishedError: it has not ended in time.
            GatewayUnavailableError: the facility has forgotten it.
        """
        waiting = _Waiting(task_id, asyncio.get_running_loop().create_future())
        self._waiting.add(waiting)
        self._more.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run(), name="crestline-iri-tasks")
        try:
            async with asyncio.timeout(timeout):
                return await waiting.ended
        except TimeoutError:
            await self.cancel(task_id)
            raise UnfinishedError(
                f"Task {task_id} of {self._calls.url} has not ended within {timeout:.0f} s.",
                hint="The facility may be busy with files; try again later.",
            ) from None
        finally:
            self._waiting.discard(waiting)

    async def cancel(self, task_id: str) -> None:
        """Ask the facility to stop a task; some cannot."""
        with contextlib.suppress(CrestlineError):
            await self._calls.request("DELETE", f"/task/{quote(task_id, safe='')}", how=RetryMode.FAIL_FAST)

    async def close(self) -> None:
        """Stop polling tasks."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        for waiting in self._waiting:
            waiting.ended.cancel()

    async def _run(self) -> None:
        while self._waiting:
            self._more.clear()
            pause = min(each.next_poll for each in self._waiting) - time.monotonic()
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._more.wait()
                continue
            due = [each for each in self._waiting if each.next_poll <= time.monotonic()]
            await map_concurrently(self._poll, due, _AT_ONCE)

    async def _poll(self, waiting: _Waiting) -> None:
        self.requests += 1
        try:
            response = await self._calls.request(
                "GET", f"/task/{quote(waiting.task_id, safe='')}", how=RetryMode.FAIL_FAST
            )
            task = self._calls.read(response, Task)
        except (GatewayUnavailableError, RateLimitedError) as error:
            self._postpone(waiting, error.retry_after or 0.0)
        except NotFoundError as error:
            waiting.missing += 1
            if waiting.missing < _MISSING_LOOKS:
                self._postpone(waiting)
                return
            self._end(waiting, GatewayUnavailableError(f"The facility has forgotten a task: {error.message}"))
        except Exception as error:  # reaches the caller that waits for this task
            self._end(waiting, error)
        else:
            if task.status in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, "cancelled"):
                self._end(waiting, task)
            else:
                self._postpone(waiting)

    def _postpone(self, waiting: _Waiting, least: float = 0.0) -> None:
        now = time.monotonic()
        interval = min(max(_GROWTH * (now - waiting.started_at), _SHORTEST), _LONGEST)
        waiting.next_poll = now + max(interval, least)

    def _end(self, waiting: _Waiting, outcome: Task | Exception) -> None:
        self._waiting.discard(waiting)
        if waiting.ended.done():
            return
        if isinstance(outcome, Task):
            waiting.ended.set_result(outcome)
        else:
            waiting.ended.set_exception(outcome)


def output_of(task: Task) -> Any:
    """What a task has brought, whichever name the facility gives it."""
    result = task.result
    if not isinstance(result, dict):
        return result
    for name in ("output", "content_base64", "data", "content"):
        if name in result:
            return result[name]
    return result


def failure_of(task: Task) -> str:
    """Why a task has failed, in the facility's words."""
    result: Any = task.result
    if isinstance(result, dict):
        result = result.get("error") or result.get("output") or result.get("detail") or ""
    return str(result or "")
