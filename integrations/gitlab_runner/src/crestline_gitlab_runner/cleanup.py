"""`cleanup` and `gc`: remove everything that a job left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crestline.model import CrestlineError, FileMissingError
from crestline.private_files import locked
from crestline_gitlab_runner import sharing
from crestline_gitlab_runner.allocation import Allocation
from crestline_gitlab_runner.cache_store import remove_old
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import SystemFailureError
from crestline_gitlab_runner.identity import Connect
from crestline_gitlab_runner.prepare import workspaces
from crestline_gitlab_runner.settings import Settings, seconds
from crestline_gitlab_runner.state import State, folder_of

if TYPE_CHECKING:
    from crestline.client import System


async def clean_up(settings: Settings, job: CiJob, connect: Connect) -> None:
    """End the job, remove its workspace, and forget it. What fails is left to the next attempt and to `gc`."""
    state = State.find(folder_of(settings, job))
    if state is None:
        return
    shared = sharing.of(settings, state)
    if shared is None:
        await _remove(settings, state, connect)
        return
    await _leave(settings, state, shared, connect)
    if sharing.is_released_by(job):
        await _remove(settings, shared, connect)


async def _leave(settings: Settings, state: State, shared: State, connect: Connect) -> None:
    """Remove a job's files in an allocation that keeps running."""
    async with connect() as system:
        await Allocation(system, settings, state).detach()
    shared.touch()
    state.forget()


async def _remove(settings: Settings, state: State, connect: Connect, *, long_ago: bool = False) -> None:
    with locked(state.folder / "lock"):
        async with connect() as system:
            allocation = Allocation(system, settings, state)
            await allocation.cancel(long_ago=long_ago)
            state.record.over = True
            state.save()
            if not (settings.workspace.keep_on_failure and state.record.failed):
                await allocation.remove_workspace()
        _forget(state)


async def collect_garbage(settings: Settings, connect: Connect) -> None:
    """Remove workspaces without a heartbeat for twice its limit.

    Raises:
        SystemFailureError: some could not be removed; all others were.
    """
    abandoned = 2 * settings.heartbeat_ttl
    known, failed = set(), []
    for folder in sorted([*settings.state_dir.glob("job-*"), *settings.state_dir.glob("alloc-*")]):
        try:
            state = State.find(folder)
            if state is None or state.age < abandoned:
                known.add(state.record.name if state else "")
                continue
            print(f"CI job {state.record.ci_job}: {state.record.name} was left behind")
            if state.record.client_id:
                print(f"  it belongs to {state.record.client_id}, whose secret is not known here: it ends itself")
            if state.record.client_id or state.record.shared:
                _forget(state)
            else:
                await _remove(settings, state, connect, long_ago=True)
        except CrestlineError as error:
            print(f"  {error}")
            failed.append(folder.name)
    for lock in settings.state_dir.glob(".alloc-*.lock"):
        with locked(lock):
            if not lock.with_name(lock.name.removeprefix(".").removesuffix(".lock")).exists():
                lock.unlink()
    remove_old(settings.state_dir / "caches", seconds=seconds(settings.recovery.remove_after))
    async with connect() as system:
        await _remove_old_workspaces(settings, system, known)
    if failed:
        raise SystemFailureError(f"Still there: {', '.join(failed)}.", hint="The next gc tries again.")


def _forget(state: State) -> None:
    if state.folder.name.startswith("alloc-"):
        sharing.forget(state)
    else:
        state.forget()


async def _remove_old_workspaces(settings: Settings, system: System, known: set[str]) -> None:
    root = await workspaces(settings, system)
    try:
        entries = await system.ls(root)
    except FileMissingError:
        return
    oldest = time.time() - seconds(settings.recovery.remove_after)
    for entry in entries:
        if not entry.name.startswith(("ci-", "alloc-")) or entry.name in known or not entry.is_directory:
            continue
        try:
            beat = (await system.stat(f"{root}/{entry.name}"))["mtime"]
        except CrestlineError as error:
            print(f"{entry.name}: {error}")
            continue
        if beat < oldest:
            print(f"{root}/{entry.name} was left behind")
            await system.remove(f"{root}/{entry.name}", force=True)
