"""What a pipeline is told of a job that the scheduler ended."""

from __future__ import annotations

import pytest

from crestline.model import Job, JobState, JobTimes, describe_end
from crestline_gitlab_runner import verdict
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError


def ended(state: JobState, **fields: object) -> Job:
    return Job(job_id="7", state=state, raw_state=str(fields.pop("raw_state", state.value.upper())), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (ended(JobState.TIMEOUT, times=JobTimes(limit=600)), 124),
        (ended(JobState.DEADLINE), 124),
        (ended(JobState.OUT_OF_MEMORY), 137),
        (ended(JobState.CANCELLED, raw_state="CANCELLED by 1000"), 143),
        (ended(JobState.FAILED, exit_code=3), 3),
        (ended(JobState.FAILED, exit_code=0, signal=9), 137),
        (ended(JobState.FAILED, exit_code=271), 143),  # as PBS says that SIGTERM ended it
        (ended(JobState.FAILED), 1),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else value.raw_state,
)
def test_end_that_is_the_jobs_own_fails_the_build_in_the_common_words(job: Job, code: int) -> None:
    with pytest.raises(BuildFailureError) as caught:
        verdict.of_job(job)
    assert (caught.value.code, caught.value.message) == (code, describe_end(job))


@pytest.mark.parametrize(
    "job",
    [
        ended(JobState.NODE_FAIL, nodes="nid[1-2]"),
        ended(JobState.PREEMPTED),
        ended(JobState.FAILED, raw_state="LAUNCH_FAILED"),
        ended(JobState.FAILED, exit_code=0, signal=53),
        ended(JobState.FAILED, reason="Cannot start the job: no such directory"),
        ended(JobState.FAILED, exit_code=90),  # the agent's own code
        ended(JobState.COMPLETED),
    ],
    ids=lambda job: job.raw_state,
)
def test_end_that_is_the_systems_may_be_repeated(job: Job) -> None:
    with pytest.raises(SystemFailureError):
        verdict.of_job(job)


def test_reason_of_a_cancelled_job_is_said() -> None:
    with pytest.raises(BuildFailureError, match="Reason: AssociationJobLimit"):
        verdict.of_job(ended(JobState.CANCELLED, reason="AssociationJobLimit"))
    with pytest.raises(BuildFailureError, match=r"^Job 7 was cancelled\.$"):
        verdict.of_job(ended(JobState.CANCELLED, reason="None"))
