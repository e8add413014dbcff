"""One allocation for several CI jobs: `CRESTLINE_ALLOC: name` in each of them.

The first job of a project with the name allocates the nodes, and the others use them. The allocation ends with the job
that sets `CRESTLINE_ALLOC_RELEASE: "true"`, at its time limit, or after `heartbeat_ttl` without a job.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.model import JobNotFoundError
from crestline.private_files import locked
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.identity import Connect
from crestline_gitlab_runner.settings import Settings
from crestline_gitlab_runner.state import State

if TYPE_CHECKING:
    pass


def asked_for(job: CiJob) -> str | None:
    """Return the name of the shared allocation of a job, or None.

    Raises:
        BuildFailureError: invalid name.
    """
    name = job.variables.get("CRESTLINE_ALLOC", "")
    if name and not re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", name):
        raise BuildFailureError(
            f"CRESTLINE_ALLOC: {name!r} cannot be a name.", hint="Use letters, digits, '.', '_', '-'."
        )
    return name or None


async def find_or_begin(settings: Settings, job: CiJob, name: str, root: str, connect: Connect) -> State:
    """Return the shared allocation's directory on this machine, or a new one if none exists or it has ended.

    The name is valid within the project and the client of the job.
    """
    client_id = job.variables.get("F7T_CLIENT_ID", "")
    digest = hashlib.sha256(f"{job.project} {client_id} {name}".encode()).hexdigest()[:16]
    folder = settings.state_dir / f"alloc-{digest}"
    with locked(_lock(folder)):
        state = State.find(folder)
        if state is not None and state.record.job_id is not None and await _has_ended(state, connect):
            state.forget()
            state = None
        if state is None:
            state = State.create(folder, ci_job=job.id, root=root, client_id=client_id, kind="alloc")
        state.touch()
    return state


def forget(shared: State) -> None:
    """Forget an allocation and its lock."""
    with locked(_lock(shared.folder)):
        shared.forget()
        _lock(shared.folder).unlink(missing_ok=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def of(settings: Settings, state: State) -> State | None:
    """Return the shared allocation of a job."""
    return State.find(settings.state_dir / state.record.shared) if state.record.shared else None


def is_released_by(job: CiJob) -> bool:
    """Whether the allocation ends with this job."""
    return job.variables.get("CRESTLINE_ALLOC_RELEASE", "").lower() in ("true", "1", "yes")


def submission_lock(shared: State) -> Path:
    """Return the lock that is held while the allocation is submitted or ended."""
    return shared.folder / "lock"


async def _has_ended(state: State, connect: Connect) -> bool:
    async with connect() as system:
        try:
            return (await system.job(state.record.job_id or "")).is_finished
        except JobNotFoundError:
            return False
