"""How a job ended, as an exit code and as a sentence."""

from __future__ import annotations

from crestline.model import Job


def job_exit_code(job: Job) -> int:
    """The job's own exit code; 128 + n where signal n ended it; 1 where it failed and nobody says how."""
    if job.state.is_success:
        return 0
    if job.signal:
        return 128 + job.signal
    return job.exit_code or 1


def describe_end(job: Job) -> str:
    """For people."""
    ended = f"Job {job.job_id} {job.state}"
    if job.signal:
        return f"{ended}, signal {job.signal}"
    # A job that Slurm cancels before its script ends shows exit code 0, which says nothing.
    return f"{ended}, exit code {job.exit_code}" if job.exit_code or job.state.is_success else ended
