"""Finding a job whose id got lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import JobFilter
from crestline.client.policy import Policy
from crestline.client.submit_guard import is_duplicate
from crestline.model import CrestlineError, Job


async def find_job(backend: Backend, matches: Callable[[Job], bool], policy: Policy) -> Job | None:
    """The job that matches, as soon as a list has it.

    Returns:
        the job; None when the lists have lacked it for `SubmitPolicy.visibility_timeout`. Lists that fail do not count.
    """
    missing_since: float | None = None
    while True:
        pause = policy.submit.poll_interval
        try:
            jobs = await backend.jobs.list(JobFilter(all_users=policy.poll.all_users), retry=False)
        except CrestlineError as error:
            pause = max(policy.poll.max_interval, error.retry_after or 0.0)
        else:
            for job in jobs:
                if matches(job) and not is_duplicate(job):
                    return job
            now = clock.monotonic()
            missing_since = missing_since if missing_since is not None else now
            if now - missing_since >= policy.submit.visibility_timeout:
                return None
        await asyncio.sleep(pause)
