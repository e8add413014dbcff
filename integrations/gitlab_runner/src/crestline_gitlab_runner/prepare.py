"""`config` and `prepare`: the directories of a job, and its submission."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import crestline
from crestline.model import describe_end
from crestline.private_files import locked, write_private
from crestline_gitlab_runner import images, log, resources, sharing, sources
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import SystemFailureError
from crestline_gitlab_runner.identity import Connect, project_client
from crestline_gitlab_runner.runner_process import identify, runs
from crestline_gitlab_runner.settings import SAFE_PATH, Settings
from crestline_gitlab_runner.state import State, folder_of

if TYPE_CHECKING:
    from crestline.client import System


async def describe(settings: Settings, job: CiJob, connect: Connect) -> dict[str, Any]:
    """Return the answer of `config_exec`, and create the job's directory on this machine."""
    folder = folder_of(settings, job)
    state = State.find(folder)
    if state is not None and state.record.over:  # an earlier attempt has ended it, and could not remove everything
        state.forget()
        state = None
    if state is None:
        client = project_client(settings, job)
        client_id = client[0] if client else ""
        root = await _root(settings, client_id, connect)
        name = sharing.asked_for(job)
        shared = await sharing.find_or_begin(settings, job, name, root, connect) if name else None
        runner = identify(os.getppid())
        state = State.create(folder, ci_job=job.id, root=root, client_id=client_id, shared=shared, runner=runner)
    return {
        "builds_dir": state.builds_dir,
        "cache_dir": state.cache_dir,
        "builds_dir_is_shared": False,
        "hostname": settings.gateway.system,
        "driver": {"name": "crestline", "version": crestline.__version__},
    }


async def prepare(settings: Settings, job: CiJob, connect: Connect) -> None:
    """Submit the job in which the CI job runs. A repeated `prepare` finds it.

    Raises:
        BuildFailureError: the CI job requests something that is not allowed.
        SystemFailureError: the job ended before it could be used.
    """
    state = load_state(settings, job)
    if state.record.runner and not runs(state.record.runner):  # it was a program between the runner and `config`
        state.record.runner = ""
        state.save()
    if settings.stages.get_sources == "host":
        sources.check(job)
        if sources.needs_git(job):
            await sources.require_confinement(state)
    images.launch(settings.images, job.image, state.record.workspace, "bash", "/script", per_rank=False)
    spec, remarks = resources.ask(settings.job, job.variables, job.timeout)
    for remark in remarks:
        log.remark(remark)
    from crestline_gitlab_runner.allocation import Allocation

    shared = sharing.of(settings, state)
    owner = shared or state
    with locked(sharing.submission_lock(owner)):
        owner = State.find(owner.folder) or owner  # another process may have submitted it meanwhile
        found = owner.record.job_id is not None
        async with connect() as system:
            submitted = await Allocation(system, settings, owner).submit(spec)
    if submitted.is_finished:
        state.record.over = True
        state.save()
        raise SystemFailureError(f"{describe_end(submitted)} The CI job had not begun.")
    if shared is not None:
        state.record.job_id = submitted.job_id
        state.save()
    log.remark(f"Job {submitted.job_id} {'found on' if found else 'submitted to'} {settings.gateway.system}.")


def load_state(settings: Settings, job: CiJob) -> State:
    """Load the state that `config` has created.

    Raises:
        SystemFailureError: the state does not exist.
    """
    state = State.find(folder_of(settings, job))
    if state is None:
        raise SystemFailureError(
            f"Nothing is known of CI job {job.id} on {os.uname().nodename}.",
            hint="config_exec must run first, with the same configuration file.",
        )
    state.touch()
    return state


async def _root(settings: Settings, client_id: str, connect: Connect) -> str:
    """Return the directory of workspaces on the system. The gateway is asked once for each identity."""
    root = settings.workspace.root
    if root and "$USER" not in root:
        return f"{root}/{settings.name}"
    asked = f"{settings.gateway.url} {settings.gateway.system} {settings.gateway.client_id} {client_id} {root}"
    note = settings.state_dir / f"root-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    if note.exists():
        return note.read_text()
    async with connect() as system:
        found = await workspaces(settings, system)
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(note, found.encode())
    return found


async def workspaces(settings: Settings, system: System) -> str:
    """Return the directory of all workspaces of this runner, for the connected user.

    Raises:
        SystemFailureError: scripts would have to quote its name.
    """
    root = settings.workspace.root
    if root and "$USER" not in root:
        return f"{root}/{settings.name}"
    home = (await system.default_workdir()).rstrip("/")
    found = root.replace("$USER", home.rpartition("/")[2]) if root else f"{home}/.crestline-ci"
    if not SAFE_PATH.fullmatch(found):
        raise SystemFailureError(f"{found} cannot be the workspaces' root.", hint="Set workspace.root.")
    return f"{found}/{settings.name}"
