"""How a job ended, as a sentence for people: the one place for all adapters and commands."""

from __future__ import annotations

import signal

from crestline.model.job import Job
from crestline.model.state import JobState
from crestline.model.time_limits import format_duration

_LAUNCH_FAILED = 53
"""signal that Slurm reports where a job could not be started; no program ends by it"""
_PBS_NOT_STARTED = frozenset({-1, -2, -3, -10})
"""exit statuses of PBS for a job that it could not start"""
_NOT_STARTED = "Cannot start the job:"
"""begins the reason that the gateway's `local` scheduler gives where it could not start a job"""
_SHELL_SIGNAL = 128
"""a shell's exit code for a command that a signal ended is this and the signal"""
_PBS_SIGNAL = 256
"""PBS's exit status of a job that a signal ended is this and the signal"""

_CODES = {126: "a command could not be executed", 127: "a command was not found"}
"""what exit codes of a shell mean"""

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
"""reasons that say what the state says already, in lower case"""


def describe_end(job: Job) -> str:
    """What happened to a job that has ended, as one sentence, for example "Job 7 reached its time limit of 00:10:00."

    A reason that the scheduler gives beyond that is `end_reason`, what to do about it is `end_hint`.
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
    """The scheduler's reason for an end, where it says more than the state; else empty."""
    return "" if job.reason.lower().startswith(_NO_NEWS) else job.reason.removeprefix(_NOT_STARTED).strip()


def end_hint(job: Job) -> str:
    """What a user can do about a job that did not complete, as one or two sentences; empty where nothing is known."""
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
    """Whether the scheduler could not start the job, so that it has no output."""
    return job.state is JobState.FAILED and (
        job.signal == _LAUNCH_FAILED
        or job.exit_code in _PBS_NOT_STARTED
        or job.raw_state.upper().startswith("LAUNCH_FAILED")
        or job.reason.startswith(_NOT_STARTED)
    )


def end_signal(job: Job) -> int | None:
    """The signal that ended a job; None if none did."""
    if job.state is not JobState.FAILED:
        return None
    if job.exit_code is not None and job.exit_code > _PBS_SIGNAL:
        return job.exit_code - _PBS_SIGNAL
    return job.signal or None


def _signals() -> set[int]:
    return {each.value for each in signal.Signals}


def _signal_name(number: int) -> str:
    return f"{number} ({signal.Signals(number).name})" if number in _signals() else str(number)
