"""What a user reads while a session starts: the job's news in words, and the last lines of its log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from crestline.client import JobEvent, System
from crestline.model import Job, JobState, describe_end
from crestline_jupyterhub.background import spawn_task

ESTIMATE_INTERVAL = 5.0
"""seconds between two looks at what the monitor knows of a waiting job"""
LOG_INTERVAL = 1.0
LOG_LINES = 5
"""of one text of the log, at most"""

Message = dict[str, Any]

_REASONS = {
    "Resources": "waiting for free nodes",
    "Priority": "other jobs come first",
    "Dependency": "waiting for another job",
    "Reservation": "waiting for its reservation",
    "ReqNodeNotAvail": "the nodes it needs are not available now",
    "PartitionDown": "the partition is down",
    "PartitionTimeLimit": "its time limit is longer than the partition allows",
    "QOSMaxJobsPerUserLimit": "you have as many jobs as your quality of service allows",
    "AssocGrpCPUMinutesLimit": "the account's budget is used up",
    "AssocMaxJobsLimit": "the account has as many jobs as it may",
    "JobHeldUser": "it is held",
    "JobHeldAdmin": "an administrator holds it",
    "BeginTime": "its start time has not come",
}


async def events(
    observer: System, owner: Callable[[], Awaitable[System]], job_id: str, log: str
) -> AsyncGenerator[Message, None]:
    """The events of the hub's progress page, until the job has ended.

    Args:
        observer: watches the job.
        owner: opens the system as who may read its log.
        log: the session's, on the system.

    Raises:
        JobNotFoundError: the scheduler does not know the job.
    """
    news: asyncio.Queue[JobEvent | str | None] = asyncio.Queue()
    watching = asyncio.ensure_future(_watch(observer, job_id, news))
    reading: asyncio.Task[None] | None = None
    last: JobEvent | None = None
    said: Message = {}
    try:
        while True:
            item: JobEvent | str | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ESTIMATE_INTERVAL):
                    item = await news.get()
                    if item is None:
                        await watching
                        return
            if isinstance(item, str):
                for line in item.splitlines()[-LOG_LINES:]:
                    yield {"progress": 80, "message": line}
                continue
            last = item or last
            if last is None:
                continue
            message = describe(last, observer.monitor.snapshot(job_id))
            if message != said:
                yield message
            said = message
            if last.state is JobState.RUNNING and reading is None:
                reading = spawn_task(_read(owner, log, news))
    finally:
        for task in filter(None, (watching, reading)):
            task.cancel()
        await asyncio.gather(*filter(None, (watching, reading)), return_exceptions=True)


async def _watch(system: System, job_id: str, news: asyncio.Queue[JobEvent | str | None]) -> None:
    try:
        async with contextlib.aclosing(system.watch(job_id)) as events:
            async for event in events:
                news.put_nowait(event)
    finally:
        news.put_nowait(None)


async def _read(owner: Callable[[], Awaitable[System]], log: str, news: asyncio.Queue[JobEvent | str | None]) -> None:
    async with contextlib.aclosing((await owner()).follow(log, max_interval=LOG_INTERVAL)) as texts:
        async for text in texts:
            news.put_nowait(text)


def describe(event: JobEvent, job: Job) -> Message:
    """A job's news as an event of the progress page.

    Args:
        job: as the monitor knows it now.
    """
    if event.state is JobState.UNKNOWN:
        return {
            "progress": 30,
            "message": f"Job {job.job_id}: its state is not known now ({event.reason}). It goes on.",
        }
    if event.state.is_waiting:
        why = explain_reason(event.reason)
        when = _estimate(job.times.expected_start)
        return {"progress": 30, "message": f"Job {job.job_id} is in the queue{': ' + why if why else ''}.{when}"}
    if event.state is JobState.CONFIGURING:
        return {"progress": 50, "message": f"Job {job.job_id}: its nodes are being prepared."}
    if event.state.is_terminal:
        return {"progress": 90, "message": describe_end(event.job)}
    where = f" on {event.job.nodes}" if event.job.nodes else ""
    return {"progress": 70, "message": f"Job {job.job_id} runs{where}; the server is starting."}


def explain_reason(reason: str) -> str:
    """A scheduler's reason, in words where they are known."""
    reason = reason.strip("() ")
    if reason in ("", "None"):
        return ""
    return _REASONS.get(reason.split(",")[0], reason)


def _estimate(start: int | None) -> str:
    if start is None or start <= time.time():
        return ""
    form = "%H:%M" if start - time.time() < 43200 else "%d %B, %H:%M"
    return f" It is expected to start at {time.strftime(form + ' %Z', time.localtime(start))}."
