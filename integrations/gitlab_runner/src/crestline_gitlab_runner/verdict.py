"""Converts the end of a stage to a result for the pipeline."""

from __future__ import annotations

from crestline.model import Job, JobState, describe_end, end_hint, end_reason
from crestline.model.endings import end_signal, launch_failed
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
_SYSTEM_WORDS = ("REVOKED", "RECONFIG_FAIL")


def of_command(code: int) -> None:
    """Raise an error for a command that failed by itself.

    Raises:
        BuildFailureError: its exit code is not 0.
    """
    if code == 0:
        return
    hint = "137 is 128 + SIGKILL: perhaps it needs more memory." if code == MEMORY else ""
    raise BuildFailureError(f"The script ended with exit code {code}.", hint=hint, code=code)


def of_job(job: Job) -> None:
    """Raise an error for a job that ended before its command had ended.

    Raises:
        BuildFailureError: time limit (124), memory (137), cancelled (143), or the job killed itself.
        SystemFailureError: any other end.
    """
    said = describe_end(job)
    if job.state in _SYSTEM_STATES or launch_failed(job) or job.raw_state.upper().startswith(_SYSTEM_WORDS):
        raise SystemFailureError(said, hint="The system failed, not the job.")
    if job.state in (JobState.TIMEOUT, JobState.DEADLINE):
        hint = 'Ask for more, such as SLURM_TIMELIMIT: "01:00:00" (in quotes).'
        raise BuildFailureError(said, hint=hint, code=TIME_LIMIT)
    if job.state is JobState.OUT_OF_MEMORY:
        raise BuildFailureError(said, hint="Ask for more by CRESTLINE_MEMORY.", code=MEMORY)
    if job.state is JobState.CANCELLED:
        reason = end_reason(job)
        raise BuildFailureError(f"{said} Reason: {reason}." if reason else said, code=CANCELLED)
    if job.state is JobState.FAILED:
        if job.exit_code in _AGENT:
            raise SystemFailureError(f"Job {job.job_id} ended: {_AGENT[job.exit_code]}.")
        number = end_signal(job)
        raise BuildFailureError(said, hint=end_hint(job), code=128 + number if number else job.exit_code or 1)
    raise SystemFailureError(f"{said} The script did not report its end.", hint="See agent.log.")
