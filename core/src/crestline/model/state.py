"""The state model of all schedulers: `normalize_state` maps words of Slurm and letters of PBS to a `JobState`."""

from __future__ import annotations

import enum
from functools import lru_cache


class JobState(enum.StrEnum):
    """State of a job; the names are Slurm's in lower case where Slurm has one.

    >>> JobState.TIMEOUT.is_terminal, JobState.TIMEOUT.is_success
    (True, False)
    """

    SUBMITTED = "submitted"
    """Accepted by the gateway, not yet visible in any list."""
    PENDING = "pending"
    CONFIGURING = "configuring"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    BOOT_FAIL = "boot_fail"
    DEADLINE = "deadline"
    UNKNOWN = "unknown"
    """The state cannot be determined, because of an error or an unknown word. The job may still run."""

    @property
    def is_terminal(self) -> bool:
        """True once the job can never run again under the same id."""
        return self in _TERMINAL

    @property
    def is_success(self) -> bool:
        """True for `completed` only."""
        return self is JobState.COMPLETED

    @property
    def is_waiting(self) -> bool:
        """True before the job has its nodes."""
        return self in (JobState.SUBMITTED, JobState.PENDING)


_TERMINAL = frozenset(
    {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.TIMEOUT,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
    }
)

# squeue(1) and sacct(1), section "JOB STATE CODES". A requeued or specially held job is pending again.
_SLURM = {
    "BOOT_FAIL": JobState.BOOT_FAIL,
    "CANCELLED": JobState.CANCELLED,
    "COMPLETED": JobState.COMPLETED,
    "COMPLETING": JobState.COMPLETING,
    "CONFIGURING": JobState.CONFIGURING,
    "DEADLINE": JobState.DEADLINE,
    "FAILED": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED,
    "NODE_FAIL": JobState.NODE_FAIL,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "PENDING": JobState.PENDING,
    "POWER_UP_NODE": JobState.CONFIGURING,
    "PREEMPTED": JobState.PREEMPTED,
    "RECONFIG_FAIL": JobState.FAILED,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "REVOKED": JobState.CANCELLED,
    "RUNNING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.PENDING,
    "STAGE_OUT": JobState.COMPLETING,
    "STOPPED": JobState.SUSPENDED,
    "SUSPENDED": JobState.SUSPENDED,
    "TIMEOUT": JobState.TIMEOUT,
    "UPDATE_DB": JobState.RUNNING,
}

# qstat(1B) of OpenPBS, job attribute `job_state`. F, X and M carry no verdict: the exit status does.
_PBS = {
    "B": JobState.RUNNING,
    "E": JobState.COMPLETING,
    "H": JobState.PENDING,
    "Q": JobState.PENDING,
    "R": JobState.RUNNING,
    "S": JobState.SUSPENDED,
    "T": JobState.PENDING,
    "U": JobState.SUSPENDED,
    "W": JobState.PENDING,
}

# Exit statuses of jobs that PBS ended itself, as its guide for users lists them.
_PBS_ENDS = {
    -29: JobState.TIMEOUT,
    -28: JobState.TIMEOUT,
    -27: JobState.OUT_OF_MEMORY,
    -26: JobState.OUT_OF_MEMORY,
}


@lru_cache(maxsize=1024)
def normalize_state(raw: str | None, exit_code: int | None = None) -> JobState:
    """Map a scheduler's own word for a state to a `JobState`.

    Sources: section "JOB STATE CODES" of squeue(1) and sacct(1), and attribute `job_state` of qstat(1B).

    Args:
        raw: value of `status.state` in FirecREST's answer. A Slurm word, also `CANCELLED by 1001` or with flags
            (`RUNNING+COMPLETING`, `CANCELLED+`), or a PBS letter.
        exit_code: exit status of the job, which decides PBS's `F` and `X`.

    Returns:
        the state; `JobState.UNKNOWN` for a word that no scheduler documents.

    >>> normalize_state("CANCELLED by 1001").name
    'CANCELLED'
    """
    if not raw:
        return JobState.UNKNOWN
    words = [word for word in raw.upper().split(" ")[0].split("+") if word]
    for word in reversed(words):  # Slurm appends flags such as COMPLETING behind the base state
        if word in _SLURM:
            return _SLURM[word]
    letter = words[0] if words else ""
    if letter in _PBS:
        return _PBS[letter]
    if letter in ("F", "X"):
        return JobState.COMPLETED if not exit_code else _PBS_ENDS.get(exit_code, JobState.FAILED)
    return JobState.UNKNOWN
