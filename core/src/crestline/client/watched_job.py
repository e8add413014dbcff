"""A watched job and its watchers."""

from __future__ import annotations

import asyncio
import math

import msgspec

from crestline.model import CrestlineError, Job, JobState


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change of a job's state.

    Attributes:
        job: the job as last reported.
        state: state of the job; UNKNOWN while the gateway does not report it. `job.state` keeps the last known state.
        reason: the scheduler's reason for the state; for UNKNOWN the error.

    Example::

        async for event in daint.watch(job):
            print(event.job.job_id, event.state, event.reason)
    """

    job: Job
    state: JobState
    reason: str = ""


class Watcher:
    """One iteration over a job's events."""

    __slots__ = ("_news", "_waiting")

    def __init__(self) -> None:
        self._news: list[JobEvent | CrestlineError] = []  # an empty deque takes ten times as much
        self._waiting: asyncio.Future[None] | None = None

    def notify(self, news: JobEvent | CrestlineError) -> None:
        """Queue an event; an error ends the iteration and is raised."""
        self._news.append(news)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self) -> JobEvent:
        """Wait for the next event of the job.

        Raises:
            CrestlineError: the job can no longer be watched.
        """
        while not self._news:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        news = self._news.pop(0)
        if isinstance(news, CrestlineError):
            raise news
        return news


class WatchedJob:
    """State of one watched job id; times in seconds of the monotonic clock."""

    __slots__ = (
        "heard",
        "job",
        "last_news",
        "last_notified",
        "looks",
        "missed_at",
        "missing_since",
        "wanted_until",
        "watchers",
    )

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.heard = -math.inf
        """time of the last event; answers to earlier requests are older than it"""
        self.last_news = now
        self.wanted_until = now
        self.watchers: list[Watcher] = []  # a set takes four times as much
        self.last_notified: tuple[JobState, str, str] | None = None
        self.missing_since: float | None = None
        self.missed_at = now
        """time of the last list that lacked the job; an interval without lists proves nothing"""
        self.looks = 0

    def event(self) -> JobEvent:
        """Return the job's last known state as an event."""
        return JobEvent(job=self.job, state=self.job.state, reason=self.job.reason)

    def update(self, job: Job, now: float) -> None:
        """Store the job's new state, and notify the watchers if it has changed."""
        self.job = job
        if self.last_notified != (job.state, job.raw_state, job.reason):
            self.notify(self.event(), now)

    def notify(self, event: JobEvent, now: float) -> None:
        """Notify the watchers of an event unless they already had it."""
        news = (event.state, event.job.raw_state, event.reason)
        if news == self.last_notified:
            return
        self.last_notified = news
        if event.state is not JobState.UNKNOWN:
            self.last_news = now
        for watcher in self.watchers:
            watcher.notify(event)
