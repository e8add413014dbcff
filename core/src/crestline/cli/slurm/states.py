"""Names of job states in any case, and squeue's compact form (squeue(1), section JOB STATE CODES)."""

from __future__ import annotations

from crestline.cli.slurm.program import CommandError
from crestline.model import Job, JobState

_SHORT = {
    "BOOT_FAIL": "BF", "CANCELLED": "CA", "COMPLETED": "CD", "CONFIGURING": "CF", "COMPLETING": "CG", "DEADLINE": "DL",
    "FAILED": "F", "NODE_FAIL": "NF", "OUT_OF_MEMORY": "OOM", "PENDING": "PD", "PREEMPTED": "PR", "RUNNING": "R",
    "RESV_DEL_HOLD": "RD", "REQUEUE_FED": "RF", "REQUEUE_HOLD": "RH", "REQUEUED": "RQ", "RESIZING": "RS",
    "REVOKED": "RV", "SIGNALING": "SI", "SPECIAL_EXIT": "SE", "STAGE_OUT": "SO", "STOPPED": "ST", "SUSPENDED": "S",
    "TIMEOUT": "TO",
}  # fmt: skip
_LONG = {short: name for name, short in _SHORT.items()}

ACTIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STOPPED"})
"""States that squeue lists by default."""


def state_of(job: Job) -> str:
    """Return Slurm's name of the job's state, for any scheduler."""
    word = job.raw_state.split(" ")[0].rstrip("+").split("+")[0].upper()
    if word in _SHORT:
        return word
    return "PENDING" if job.state is JobState.SUBMITTED else str(job.state).upper()


def short(state: str) -> str:
    """Return the compact form, for example `PD` for `PENDING`."""
    return _SHORT.get(state, "??")


def read_states(program: str, text: str) -> frozenset[str] | None:
    """Parse a comma-separated list of states. Returns None for `all`.

    Raises:
        CommandError: unknown state.
    """
    if text.lower() == "all":
        return None
    found = set()
    for word in text.upper().split(","):
        name = _LONG.get(word, word)
        if name not in _SHORT:
            raise CommandError(
                f"{program}: error: Invalid job state specified: {word.lower()}",
                f"{program}: error: Valid job states include: {','.join(_SHORT)}",
            )
        found.add(name)
    return frozenset(found)
