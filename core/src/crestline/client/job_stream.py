"""The event stream of a Crestline gateway, as the job monitor listens to it: it only ever saves the monitor a look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.policy import PollPolicy
from crestline.model import CrestlineError, Job

_LOG = logging.getLogger(__name__)

_NAMED = 200
"""ids in the address of one stream; for more, it is one of all the caller's jobs"""


class JobStream:
    """Keeps a stream open for the jobs that are wanted, where the gateway has streams.

    A job counts as told from the first event about it until the stream ends, however it ends. All others, and whatever
    an event cannot say alone (arrays), are the monitor's to ask for.

    Args:
        on_job: takes a job; returns False where it has to be asked for after all.
        outage: takes the reason why the gateway knows nothing.
        wake: calls the monitor.
    """

    def __init__(
        self,
        backend: Backend,
        policy: PollPolicy,
        on_job: Callable[[Job], bool],
        outage: Callable[[str], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._policy = policy
        self.on_job = on_job
        self._outage = outage
        self._wake = wake
        self._delivered: set[str] = set()
        self._asked: frozenset[str] = frozenset()
        self._all = False
        self._pause = policy.stream_reconnect_delay
        self._opened = -math.inf
        self._task: asyncio.Task[None] | None = None

    def covers(self, job_id: str) -> bool:
        """Whether every change of this job will be heard."""
        return job_id in self._delivered

    def subscribe(self, ids: Sequence[str]) -> None:
        """Listen to these jobs from now on; a stream that lacks some is opened anew, though not at every call."""
        if Capability.JOB_EVENTS not in self._backend.capabilities or clock.monotonic() - self._opened < self._pause:
            return
        wanted = frozenset(ids)
        if self._task is not None and (self._all or wanted <= self._asked):
            return
        self._opened = clock.monotonic()
        self._asked, self._all = wanted, len(wanted) > _NAMED
        previous, self._task = self._task, None
        self._task = asyncio.create_task(self._listen(previous), name="crestline-events")

    async def close(self) -> None:
        task, self._task = self._task, None
        self._asked = frozenset()
        self._opened = -math.inf
        await _end(task)

    async def _listen(self, previous: asyncio.Task[None] | None) -> None:
        me = asyncio.current_task()
        try:
            await _end(previous)
            ids = None if self._all else sorted(self._asked)
            _LOG.debug("Listening to job events from %s", self._backend.gateway_url)
            async with contextlib.aclosing(self._backend.jobs.events(ids)) as events:  # type: ignore[type-var]
                async for news in events:
                    self._pause = self._policy.stream_reconnect_delay
                    if news.job is not None:
                        self._note(news.job)
                    elif news.outage is not None:
                        await self._outage(news.outage)
                    elif lost := self._delivered & set(news.missing):
                        self._delivered -= lost
                        self._wake()
        except CrestlineError as error:
            self._pause = min(self._pause * 2, self._policy.list_retry_delay)
            _LOG.info("No job events from %s, asking instead: %s", self._backend.gateway_url, error)
        finally:
            self._delivered.clear()
            if self._task is me:
                self._task = None
                self._wake()

    def _note(self, job: Job) -> None:
        if self.on_job(job):
            if job.job_id not in self._delivered:
                self._delivered.add(job.job_id)
                self._wake()  # it need not be asked for any more
        elif job.job_id in self._delivered:
            self._delivered.discard(job.job_id)
            self._wake()


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
