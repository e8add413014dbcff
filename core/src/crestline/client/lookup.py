"""Finding a job whose id got lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import JobFilter
from crestline.client.policy import Policy
from crestline.client.run_once import is_duplicate
from crestline.model import CrestlineError, Job


async def find_job(backend: Backend, matches: Callable[[Job], bool], policy: Policy) -> Job | None:
    """The job that matches, as soon as a list has it.

    Returns:
        the job; None when the lists have lacked it for `SubmitPolicy.visibility`. A list that cannot be had counts for
        nothing.
    """
    missing_since: float | None = None
    while True:
        pause = policy.submit.look_every
        try:
            jobs = await backend.jobs.list(JobFilter(all_users=policy.poll.all_users), patient=False)
        except CrestlineError as error:
            pause = max(policy.poll.longest, error.retry_after or 0.0)
        else:
            for job in jobs:
                if matches(job) and not is_duplicate(job):
                    return job
            now = clock.monotonic()
            missing_since = missing_since if missing_since is not None else now
            if now - missing_since >= policy.submit.visibility:
                return None
        await asyncio.sleep(pause)
