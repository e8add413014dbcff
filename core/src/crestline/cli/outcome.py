"""The exit code and the description of a finished job."""

from __future__ import annotations

from crestline.model import Job, JobState, endings

TIMED_OUT = 124
"""Exit code of timeout(1), used for time limits because schedulers report different codes for them."""


def job_exit_code(job: Job) -> int:
    """Return the job's exit code; 124 at its time limit, 128 + n if signal n ended it, and 1 if it is unknown."""
    if job.state.is_success:
        return 0
    if job.state is JobState.TIMEOUT:
        return TIMED_OUT
    if job.signal:
        return 128 + job.signal
    return job.exit_code or 1


def describe_end(job: Job) -> str:
    """Describe the end of a job in one line, without a full stop."""
    if endings.launch_failed(job) and (reason := endings.end_reason(job)):
        return f"{endings.describe_end(job).removesuffix('.')}: {reason}"
    has_code = job.exit_code is not None if job.state.is_success else job.state is JobState.FAILED and job.exit_code
    if has_code and not job.signal:
        return f"Job {job.job_id} {job.state}, exit code {job.exit_code}"
    return endings.describe_end(job).removesuffix(".")
