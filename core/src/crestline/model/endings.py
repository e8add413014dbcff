"""Sentences that describe how a job ended, for all adapters and commands."""

from __future__ import annotations

import signal

from crestline.model.job import Job
from crestline.model.state import JobState
from crestline.model.time_limits import format_duration

_LAUNCH_FAILED = 53
"""signal that Slurm reports if a job could not be started; no program ends by it"""
_PBS_NOT_STARTED = frozenset({-1, -2, -3, -10})
"""exit statuses of PBS for a job that could not be started"""
_NOT_STARTED = "Cannot start the job:"
"""beginning of the reason that the gateway's `local` scheduler gives for a job that could not be started"""
_SHELL_SIGNAL = 128
"""added to a signal, a shell's exit code for a command that the signal ended"""
_PBS_SIGNAL = 256
"""added to a signal, PBS's exit status of a job that the signal ended"""

_CODES = {126: "a command could not be executed", 127: "a command was not found"}
"""meanings of a shell's exit codes"""

_SENTENCES = {
    JobState.COMPLETED: "{job} completed.",
    JobState.DEADLINE: "{job} was ended at its deadline.",
    JobState.OUT_OF_MEMORY: "{job} ran out of memory.",
    JobState.PREEMPTED: "{job} was preempted by other jobs.",
}

_HINTS = {
    JobState.TIMEOUT: "Ask for more time.",
    JobState.DEADLINE: "Give it a later deadline.",
    JobState.OUT_OF_MEMORY: "Ask for more memory.",
    JobState.NODE_FAIL: "The job is not the cause: run it again.",
    JobState.BOOT_FAIL: "The job is not the cause: run it again.",
    JobState.PREEMPTED: "The job is not the cause: run it again.",
}

_NO_NEWS = ("none", "nonzeroexitcode", "timelimit", "outofmemory", "raisedsignal", "cancelled", "deadline")
"""reasons that repeat the state, in lower case"""


def describe_end(job: Job) -> str:
    """Describe the end of a job in one sentence.

    `end_reason` returns the scheduler's further reason, and `end_hint` what to do about it.

    >>> describe_end(Job(job_id="7", state=JobState.OUT_OF_MEMORY))
    'Job 7 ran out of memory.'
    """
    name = f"Job {job.job_id}"
    if sentence := _SENTENCES.get(job.state):
        return sentence.format(job=name)
    if job.state is JobState.TIMEOUT:
        return f"{name} reached its time limit{f' of {format_duration(job.times.limit)}' if job.times.limit else ''}."
    if job.state is JobState.CANCELLED:
        _, by, user = job.raw_state.partition(" by ")
        return f"{name} was cancelled{f' by user {user}' if by else ''}."
    if job.state in (JobState.NODE_FAIL, JobState.BOOT_FAIL):
        nodes = f" ({job.nodes})" if job.nodes else ""
        return f"A node of job {job.job_id}{nodes} {'failed' if job.state is JobState.NODE_FAIL else 'did not boot'}."
    if job.state is not JobState.FAILED:
        return f"{name} is in the state {job.raw_state or job.state}."
    if launch_failed(job):
        return f"{name} could not be started."
    if number := end_signal(job):
        return f"{name} was ended by signal {_signal_name(number)}."
    if not job.exit_code:
        return f"{name} failed."
    number = job.exit_code - _SHELL_SIGNAL
    if code := _CODES.get(job.exit_code):
        return f"{name} failed with exit code {job.exit_code}: {code}."
    if number in _signals():
        return f"{name} failed with exit code {job.exit_code}: a command was ended by signal {_signal_name(number)}."
    return f"{name} failed with exit code {job.exit_code}."


def end_reason(job: Job) -> str:
    """Return the scheduler's reason for an end if it says more than the state, else an empty text."""
    return "" if job.reason.lower().startswith(_NO_NEWS) else job.reason.removeprefix(_NOT_STARTED).strip()


def end_hint(job: Job) -> str:
    """Return what the user can do about a job that did not complete; empty if Crestline knows no remedy."""
    if launch_failed(job):
        return (
            "Check that its working directory and the directories of its output files exist on the compute nodes and "
            "are writable."
        )
    if job.state is not JobState.FAILED:  # the scheduler itself ends jobs by signals, too
        return _HINTS.get(job.state, "")
    if job.exit_code in _CODES:
        return "Check the command's path, and load the modules that provide it."
    if end_signal(job) == signal.SIGKILL or job.exit_code == _SHELL_SIGNAL + signal.SIGKILL:
        return "The kernel ends a process like this if memory runs out: ask for more memory."
    return ""


def launch_failed(job: Job) -> bool:
    """Return True if the scheduler could not start the job, so that it has no output."""
    return job.state is JobState.FAILED and (
        job.signal == _LAUNCH_FAILED
        or job.exit_code in _PBS_NOT_STARTED
        or job.raw_state.upper().startswith("LAUNCH_FAILED")
        or job.reason.startswith(_NOT_STARTED)
    )


def end_signal(job: Job) -> int | None:
    """Return the number of the signal that ended a job, or None."""
    if job.state is not JobState.FAILED:
        return None
    if job.exit_code is not None and job.exit_code > _PBS_SIGNAL:
        return job.exit_code - _PBS_SIGNAL
    return job.signal or None


def _signals() -> set[int]:
    return {each.value for each in signal.Signals}


def _signal_name(number: int) -> str:
    return f"{number} ({signal.Signals(number).name})" if number in _signals() else str(number)
