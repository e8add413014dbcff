"""What a user reads when a session does not come up."""

from __future__ import annotations

from jupyterhub.spawner import SpawnException

from crestline.client import System
from crestline.model import (
    AuthenticationError,
    ConfigError,
    CrestlineError,
    InvalidRequestError,
    Job,
    JobState,
    PermissionDeniedError,
)

TAIL_LINES = 15

_HINTS = {
    JobState.OUT_OF_MEMORY: "It ran out of memory: ask for more.",
    JobState.TIMEOUT: "It reached its time limit before the server was up: ask for more time.",
    JobState.NODE_FAIL: "Its node failed: start it again.",
    JobState.BOOT_FAIL: "Its node did not boot: start it again.",
    JobState.PREEMPTED: "Another job took its place: start it again.",
    JobState.CANCELLED: "Somebody cancelled it.",
}


def refused(error: CrestlineError) -> SpawnException:
    """A gateway's error as the hub shows it."""
    reason, status = "gateway", 503
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        reason, status = "auth", 403
    elif isinstance(error, InvalidRequestError):
        reason, status = "options", 400
    elif isinstance(error, ConfigError):
        reason, status = "configuration", 500
    return SpawnException(f"{error} {error.hint}".strip(), reason=reason, status_code=status)


async def ended(system: System, job: Job, log: str) -> SpawnException:
    """A job that ended before its server was up: how, why, and the end of its log."""
    parts = [f"Job {job.job_id} ended before the server was up: {job.state}"]
    if job.exit_code not in (None, 0):
        parts[0] += f", exit code {job.exit_code}"
    parts[0] += "."
    if job.reason and job.reason.lower() != "none":
        parts.append(f"Reason: {job.reason}.")
    if hint := _HINTS.get(job.state):
        parts.append(hint)
    if tail := await _tail(system, log):
        parts.append(f"\nThe end of its log:\n{tail}")
    return SpawnException(" ".join(parts), reason="job", status_code=500)


async def _tail(system: System, log: str) -> str:
    try:
        content = await system.read_text(log)
    except (CrestlineError, OSError):
        return ""
    return "\n".join(content.splitlines()[-TAIL_LINES:])
