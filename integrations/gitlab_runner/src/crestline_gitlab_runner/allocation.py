"""The scheduler's job that a CI job runs in: submits it, watches it, sends heartbeats, and cancels it."""

from __future__ import annotations

import asyncio
import posixpath
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from crestline import clock
from crestline.model import (
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobNotFoundError,
    JobSpec,
    JobState,
    PermissionDeniedError,
    SubmitLimitError,
    UnsupportedError,
)
from crestline.model.time_limits import format_duration
from crestline_gitlab_runner import log
from crestline_gitlab_runner.agent import batch_script
from crestline_gitlab_runner.command_channel import CommandChannel, Ended
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.settings import Settings
from crestline_gitlab_runner.state import State

if TYPE_CHECKING:
    from crestline.client import JobEvent, System

_SETTLE = 8.0
"""Seconds by which a shared file system may show a job's last files late."""
_SAY_AGAIN = 60.0
_WAITING = (JobState.SUBMITTED, JobState.PENDING, JobState.UNKNOWN)
_REFUSALS = (InvalidRequestError, PermissionDeniedError, UnsupportedError)
"""Refusals of a request, after which no job exists."""


class Allocation:
    """The scheduler's job of a state, on a connected system."""

    def __init__(self, system: System, settings: Settings, state: State) -> None:
        self._system = system
        self._settings = settings
        self._state = state
        self._running = asyncio.Event()
        self.mailbox = CommandChannel(system, state.record.workspace, patience=settings.gateway_budget)

    @property
    def has_nodes(self) -> bool:
        """Whether the agent is known to run."""
        return self._running.is_set()

    # Submission

    async def submit(self, resources: JobSpec) -> Job:
        """Create the workspace with a first heartbeat, and submit the agent. An earlier attempt's job is found.

        Raises:
            BuildFailureError: the system does not grant these resources.
            SystemFailureError: other users could read the workspace.
            CrestlineError: the outcome of the submission is unknown, or the user has too many jobs.
        """
        record = self._state.record
        if record.job_id is None:
            await self._make_workspace()
            record.submitting = True
            self._state.save()
            try:
                job = await self._system.submit(self._spec(resources), key=f"gitlab/{record.name}")
            except _REFUSALS as error:
                record.submitting = False
                self._state.save()
                if isinstance(error, SubmitLimitError):  # resolves when another job ends
                    raise
                raise BuildFailureError("; ".join([str(error), *error.details[:2]])) from None
            record.job_id = job.job_id
            self._state.save()
            return job
        try:
            return await self._system.job(record.job_id)
        except JobNotFoundError:
            return Job(job_id=record.job_id, state=JobState.SUBMITTED)

    def _spec(self, resources: JobSpec) -> JobSpec:
        record = self._state.record
        return msgspec.structs.replace(
            resources,
            name=record.name,
            script=batch_script(record.workspace, ttl=self._settings.heartbeat_ttl),
            workdir=record.workspace,
            stdout=f"{record.workspace}/agent.log",
            stderr=f"{record.workspace}/agent.log",
        )

    async def _make_workspace(self) -> None:
        workspace = self._state.record.workspace
        root = posixpath.dirname(workspace)
        await self._system.mkdir(f"{workspace}/in", parents=True)
        changed, above, ours, _ = await asyncio.gather(
            self._system.chmod(workspace, "700"),
            self._system.stat(root),
            # closed to other users, because an existing directory may have other permissions
            self._system.stat(workspace),
            self.mailbox.heartbeat(),
        )
        closed = changed is not None and changed.is_directory and changed.permissions[:9] == "rwx------"
        if not closed or above["uid"] != ours["uid"]:
            raise SystemFailureError(f"{workspace} could not be closed to other users.", hint="Choose another root.")
        if stat.S_IMODE(above["mode"]) & 0o022:
            raise SystemFailureError(f"Other users may write in {root}.", hint=f"Run there: chmod go-w {root}")

    # Execution

    async def run(self, name: str, send: Callable[[], Awaitable[None]], *, started: bool) -> Ended | Job:
        """Send an order, wait for the nodes, and pass the output on until the command has ended.

        Args:
            name: name of the command.
            send: writes the order into the inbox.
            started: whether the agent is known to run.

        Returns:
            how the command ended, or the job if the scheduler ended it first.

        Raises:
            GatewayUnavailableError: the gateway did not respond for longer than `gateway_budget`.
        """
        running = self._running
        if started:
            running.set()
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self.beat_on())
            watching = group.create_task(self._watch(running))
            following = group.create_task(self._follow(name, send, running))
            await asyncio.wait((watching, following), return_when=asyncio.FIRST_COMPLETED)
            await self._drain(following)
            job = watching.result() if watching.done() else None
            ended: Ended | None = None
            if following.done():
                ended = following.result()
                if ended.why == "terminated" or (ended.code != 0 and job is not None):
                    await asyncio.wait((watching,), timeout=60)
                    job = watching.result() if watching.done() else job
            for task in (beating, watching, following):
                task.cancel()
        by_itself = ended is not None and ended.why == "own" and ended.code == 0
        if ended is not None and (job is None or by_itself or job.state not in _ENDED_FROM_OUTSIDE):
            return ended
        if job is None:
            raise SystemFailureError("It is not known how the job ended.")
        return job

    async def _drain(self, following: asyncio.Task[Ended]) -> None:
        """Wait for the output of a job that has ended, as long as more arrives."""
        received = -1
        while not following.done() and (self.mailbox.is_receiving or self.mailbox.received != received):
            received = self.mailbox.received
            await asyncio.wait((following,), timeout=_SETTLE)

    async def _follow(self, name: str, send: Callable[[], Awaitable[None]], running: asyncio.Event) -> Ended:
        await send()
        await running.wait()
        return await self.mailbox.follow(name, log.write)

    async def _watch(self, running: asyncio.Event) -> Job:
        """Return the job once it has ended. Meanwhile report why it waits."""
        job_id = self._state.record.job_id or ""
        budget = self._settings.gateway_budget
        said = 0.0
        events = self._system.watch(job_id)
        silent_since: float | None = None
        last: JobEvent | None = None
        upcoming = asyncio.ensure_future(anext(events))
        try:
            while True:
                await asyncio.wait((upcoming,), timeout=_SAY_AGAIN)
                now = clock.monotonic()
                if upcoming.done():
                    last = upcoming.result()
                    if last.state.is_terminal:
                        running.set()  # it may have started and ended between two polls, so its output must be read
                        return last.job
                    upcoming = asyncio.ensure_future(anext(events))
                    silent_since = (silent_since or now) if last.state is JobState.UNKNOWN else None
                    if last.state not in _WAITING and not running.is_set():
                        log.remark(f"Job {last.job.job_id} runs on {last.job.nodes or 'its nodes'}.")
                        running.set()
                    said = 0.0
                if last is not None and not running.is_set() and now - said >= _SAY_AGAIN:
                    log.remark(_waiting(last))
                    said = now
                if silent_since is not None and now - silent_since > budget:
                    raise GatewayUnavailableError(
                        f"No answer about job {job_id} for {format_duration(int(now - silent_since))}.",
                        hint="The job goes on, and ends itself if it stays so.",
                    )
        finally:
            upcoming.cancel()

    async def beat_on(self) -> None:
        """Send heartbeats to the agent as long as the runner lives."""
        pause = min(30.0, self._settings.heartbeat_ttl / 4)
        while True:
            try:
                await self.mailbox.heartbeat()
                self._state.touch()
                if self._state.record.shared:
                    (self._state.folder.parent / self._state.record.shared / "record.json").touch()
            except GatewayUnavailableError:
                pass  # the agent tolerates that for a while
            await asyncio.sleep(pause)

    # End

    async def cancel(self, *, long_ago: bool = False) -> None:
        """Cancel the job and wait for its end.

        Args:
            long_ago: the submission was started so long ago that the job would be listed by now.

        Raises:
            CrestlineError: the end could not be confirmed.
        """
        for job_id in await self._possible_ids(long_ago):
            with suppress(JobNotFoundError):  # a job that was just accepted may not be shown yet, and can be cancelled
                if (await self._system.job(job_id)).is_finished:
                    continue
            with suppress(JobNotFoundError):
                await self._system.cancel(job_id)
                await self._system.wait(job_id, timeout=60)

    async def _possible_ids(self, long_ago: bool) -> list[str]:
        record = self._state.record
        if record.job_id is not None:
            return [record.job_id]
        if not record.submitting:
            return []
        found = [job.job_id for job in await self._system.jobs() if job.name.startswith(record.name)]
        if not found and not long_ago:
            raise SystemFailureError(
                f"It is not known whether {record.name} was submitted.", hint="If so, it will end itself."
            )
        return found

    async def detach(self) -> None:
        """End this job's commands in a shared allocation, and delete its files."""
        record = self._state.record
        for entry in await self._entries("in"):
            if entry.startswith(f"{record.name}-") and entry.endswith(".go"):
                await self.mailbox.stop(entry.removesuffix(".go"))
        for path in (self._state.builds_dir, self._state.cache_dir):
            await self._remove(path)

    async def _entries(self, folder: str) -> list[str]:
        try:
            return [entry.name for entry in await self._system.ls(f"{self._state.record.workspace}/{folder}")]
        except FileMissingError:
            return []

    async def remove_workspace(self) -> None:
        """Delete the workspace on the system."""
        try:
            await self._remove(self._state.record.workspace)
        except CrestlineError as error:
            if self._state.record.submitting or self._state.record.job_id is not None:
                raise
            # No job was submitted, perhaps because the directory could not be created.
            print(f"{self._state.record.workspace} is left alone: {error.message}")

    async def _remove(self, path: str) -> None:
        with suppress(FileMissingError):
            await self._system.remove(path, force=True)


_ENDED_FROM_OUTSIDE = frozenset(JobState) - {JobState.COMPLETED, JobState.FAILED}


def _waiting(event: JobEvent) -> str:
    job = event.job
    if event.state is JobState.UNKNOWN:
        return f"Job {job.job_id}: {event.reason or 'no news yet'}"
    reason = f" ({job.reason})" if job.reason not in ("", "None") else ""
    estimate = ""
    if job.times.start and job.times.start > clock.time():
        estimate = f", expected to start in {format_duration(int(job.times.start - clock.time()))}"
    return f"Job {job.job_id} is {event.state}{reason}{estimate}."
