"""What a stage's end means for the pipeline."""

from __future__ import annotations

from crestline.model import Job, JobState, describe_end
from crestline.model.time_limits import format_duration
from crestline_gitlab_runner.agent import AWAY, BROKEN, STARTED_TWICE, WORKSPACE_GONE
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError

TIME_LIMIT, MEMORY, CANCELLED = 124, 137, 143
_AGENT = {
    AWAY: "the runner was not heard of for longer than heartbeat_ttl",
    WORKSPACE_GONE: "its workspace was gone",
    BROKEN: "its workspace could not be written",
    STARTED_TWICE: "the scheduler started it a second time",
}
_SYSTEM_STATES = {JobState.NODE_FAIL, JobState.BOOT_FAIL, JobState.PREEMPTED}
_SYSTEM_WORDS = ("REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL")


def of_command(code: int) -> None:
    """The verdict on a command that has ended by itself.

    Raises:
        BuildFailureError: its code is not 0.
    """
    if code == 0:
        return
    hint = "137 is 128 + SIGKILL: perhaps it needs more memory." if code == MEMORY else ""
    raise BuildFailureError(f"The script ended with exit code {code}.", hint=hint, code=code)


def of_job(job: Job) -> None:
    """The verdict where the scheduler ended the job before its command had ended.

    Raises:
        BuildFailureError: time limit (124), memory (137), cancelled (143), or the job killed itself.
        SystemFailureError: anything else.
    """
    name = f"Job {job.job_id}"
    if job.state in _SYSTEM_STATES or job.raw_state.upper().startswith(_SYSTEM_WORDS):
        raise SystemFailureError(describe_end(job), hint="The system failed, not the job.")
    if job.state in (JobState.TIMEOUT, JobState.DEADLINE):
        limit = f" of {format_duration(job.times.limit)}" if job.times.limit else ""
        raise BuildFailureError(
            f"{name} reached its time limit{limit}.",
            hint='Ask for more, such as SLURM_TIMELIMIT: "01:00:00" (in quotes).',
            code=TIME_LIMIT,
        )
    if job.state is JobState.OUT_OF_MEMORY:
        raise BuildFailureError(f"{name} ran out of memory.", hint="Ask for more by CRESTLINE_MEMORY.", code=MEMORY)
    if job.state is JobState.CANCELLED:
        by = (
            f" ({job.raw_state})"
            if " by " in job.raw_state
            else f" ({job.reason})"
            if job.reason not in ("", "None")
            else ""
        )
        raise BuildFailureError(f"{name} was cancelled{by}.", code=CANCELLED)
    if job.state is JobState.FAILED:
        if job.exit_code in _AGENT:
            raise SystemFailureError(f"{name} ended: {_AGENT[job.exit_code]}.")
        if job.signal:
            raise BuildFailureError(f"{name} was ended by signal {job.signal}.", code=128 + job.signal)
        raise BuildFailureError(f"{name} failed.", code=job.exit_code or 1)
    raise SystemFailureError(f"{describe_end(job)} The script did not report its end.", hint="See agent.log.")
