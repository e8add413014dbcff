"""Follow the state and the output of a job until it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crestline.cli.run_reporter import RunReporter
from crestline.model import Job, JobNotFoundError, JobState

if TYPE_CHECKING:
    from crestline.client import System

_NOT_STARTED = (JobState.SUBMITTED, JobState.PENDING, JobState.UNKNOWN)


async def follow_job(system: System, job: Job, tell: RunReporter) -> Job:
    """Report the states of a job and everything that it writes.

    Returns:
        The job in its terminal state, after all its output is reported.
    """
    followed: set[str] = set()

    async def pass_on(stream: str, path: str) -> None:
        async for text in system.follow(path, job=job):
            tell.output(stream, text)

    async with asyncio.TaskGroup() as group:
        async for event in system.watch(job):
            job = event.job
            tell.state(event)
            if event.state not in _NOT_STARTED and job.job_id not in followed:
                for stream, path in (await _streams(system, job)).items():
                    followed.add(job.job_id)
                    group.create_task(pass_on(stream, path))
    return job


async def _streams(system: System, job: Job) -> dict[str, str]:
    """Return the paths of `stdout` and, if it differs, `stderr`. Empty while the gateway does not list the job."""
    try:
        files = await system.metadata(job)
    except JobNotFoundError:
        return {}
    streams = {"stdout": files.stdout, "stderr": files.stderr if files.stderr != files.stdout else None}
    return {stream: path for stream, path in streams.items() if path}
