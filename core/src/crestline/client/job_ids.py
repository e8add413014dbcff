"""Job ids of arrays: which entries of a list an id means, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from crestline.model import InvalidRequestError, Job, JobState, JobTimes
from crestline.model.job_ids import is_element, parent

__all__ = ["check_id", "find_job", "is_element", "merge_answer", "merge_array", "parent"]

_PENDING_ELEMENTS = re.compile(r"^[A-Za-z0-9]+_\[(?P<indexes>[\d,:%-]+)\]$")
_RUNS = frozenset({JobState.RUNNING, JobState.CONFIGURING, JobState.COMPLETING, JobState.SUSPENDED})


def check_id(job_id: str) -> None:
    """Refuse what no scheduler would call a job, and what would change the path of a request.

    Raises:
        InvalidRequestError: it is not a job id.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+\[\]-]*", job_id):
        raise InvalidRequestError(f"{job_id!r} is not a job id.", hint="Give it as the scheduler prints it.")


def find_job(jobs: Iterable[Job], job_id: str) -> Job | None:
    """What a list of jobs says about `job_id`, None if nothing. The rows of an array become one job."""
    jobs = list(jobs)
    if is_element(job_id):
        exact = [job for job in jobs if job.job_id == job_id]
        if exact:
            return exact[0]
        waiting = [job for job in jobs if _waits_in(job.job_id, job_id)]
        return msgspec.structs.replace(waiting[0], job_id=job_id) if waiting else None
    family = [job for job in jobs if parent(job.job_id) == parent(job_id)]
    return merge_answer(family, job_id)


def merge_answer(jobs: list[Job], job_id: str) -> Job | None:
    """What the answer to a look-up of `job_id` says about it, None if nothing.

    Every row of it belongs to that job: plain FirecREST shows an array as elements (`12_3`), as what is left of it
    (`12`, `12_[4-9]`), and elements that run also as jobs with ids of their own (`15`).
    """
    if is_element(job_id):
        return find_job(jobs, job_id)
    if len(jobs) == 1 and jobs[0].job_id == job_id:
        return jobs[0]
    return merge_array(jobs, job_id) if jobs else None


def merge_array(jobs: list[Job], job_id: str) -> Job:
    """An array as one job: it has ended when all elements have, and failed when one has."""
    speaker = _speaker(jobs)
    state = speaker.state
    if state is JobState.PENDING and any(job.state.is_terminal for job in jobs):
        state = JobState.RUNNING
    starts = [job.times.start for job in jobs if job.times.start is not None]
    ends = [job.times.end for job in jobs if job.times.end is not None]
    times = JobTimes(
        submit=speaker.times.submit,
        start=min(starts, default=None),
        end=max(ends, default=None) if state.is_terminal else None,
        limit=speaker.times.limit,
    )
    return msgspec.structs.replace(speaker, job_id=job_id, state=state, times=times)


def _speaker(jobs: list[Job]) -> Job:
    """The element whose state is the state of all; one with a name where there is a choice."""
    named = sorted(jobs, key=lambda job: not job.name)
    for job in named:
        if job.state in _RUNS:
            return job
    for job in named:
        if not job.state.is_terminal:
            return job
    for job in named:
        if not job.state.is_success:
            return job
    return named[0]


def _waits_in(listed: str, job_id: str) -> bool:
    """Whether `12_[3-7:2%4]` holds `12_5`."""
    match = _PENDING_ELEMENTS.match(listed)
    if match is None or parent(listed) != parent(job_id):
        return False
    index = int(job_id.rpartition("_")[2])
    for part in match["indexes"].partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        if index in range(int(first), int(last or first) + 1, int(step or 1)):
            return True
    return False
