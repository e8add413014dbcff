"""The Slurm scheduler, based on its commands."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

import msgspec

from crestline.gateway.hosts import Commands, Completed
from crestline.gateway.schedulers.base import RunProgram
from crestline.gateway.schedulers.cli_scheduler import CommandScheduler, checked_user
from crestline.gateway.schedulers.command_lines import CommandLine, combine, outcomes
from crestline.gateway.schedulers.job_cache import CachedJob, JobSource
from crestline.gateway.schedulers.slurm import diagnosis, queries, resources, submission
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.accounting import read_accounting, read_history
from crestline.gateway.schedulers.slurm.allocations import read_allocations
from crestline.gateway.schedulers.slurm.commands import SlurmCommands, complaints, refusal
from crestline.gateway.schedulers.slurm.metadata import read_metadata
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.gateway.schedulers.slurm.queue import SlurmQueue, read_queue, read_queue_fields
from crestline.gateway.schedulers.slurm.resources import Site
from crestline.gateway.schedulers.slurm.restd import Slurmrestd
from crestline.gateway.schedulers.slurm.tables import read_rows
from crestline.gateway.schedulers.slurm.usage import read_usage
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    JobState,
    normalize_state,
)
from crestline.model.checks import Check
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata, JobStatus
from crestline.wire.extensions import AllocationInfo, JobUsageInfo
from crestline.wire.status import Account, Node, Partition, Reservation

_KEY_DAYS = 30
"""Days for which accounting is searched for a key."""

_SESSIONS = 4
"""Number of sessions in which a batch of submissions runs at the same time."""
_EACH = 0.5
"""Seconds for each job of a batch, in addition to the limit of a single submission."""
_UNREACHED = GatewayUnavailableError(
    "Slurm did not get as far as this job.", hint="Submit it again with the same key.", retry_after=1
)


class SlurmScheduler(CommandScheduler[Site]):
    """Slurm through its commands. A submission carries its tag in the job's comment.

    Args:
        name: name of the system.
        commands: runs programs on a machine that has Slurm's.
        options: the site's options for Slurm.
    """

    kind = "slurm"
    programs = diagnosis.PROGRAMS

    def __init__(self, name: str, commands: Commands, options: SlurmOptions) -> None:
        self._options = options
        self._slurm = SlurmCommands(commands, options)
        self._rest = Slurmrestd(options.rest, options.timeout) if options.rest is not None else None
        source = _Source(self._slurm, self._rest, self._site, SlurmQueue(self._slurm, options.timeout))
        super().__init__(name, source, options, job_ids.order)

    def diagnose(self, name: str, run: RunProgram) -> AsyncIterator[Check]:
        return diagnosis.diagnose(name, run)

    async def stop(self) -> None:
        await super().stop()
        if self._rest is not None:
            await self._rest.close()

    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        return await read_metadata(self._slurm, user, await self._find_own(user, job_id))

    async def usage(self, user: str, job_id: str) -> list[JobUsageInfo]:
        return await read_usage(self._slurm, user, await self._find_own(user, job_id))

    async def _cancel(self, user: str, job_id: str, jobs: Sequence[JobInfo]) -> None:
        if self._rest is not None:
            await self._rest.cancel(user, job_id)
        else:
            done = await self._slurm.act(user, "scancel", job_id)
            # a job that has ended meanwhile is not an error; for others Slurm checks the permission
            if done.exit_status != 0:
                error = refusal("scancel", done)
                if error is not None and not isinstance(error, JobNotFoundError):
                    raise error
        if len(jobs) == 1 and jobs[0].job_id == job_id and "_" in job_id and not jobs[0].time.start:
            # Slurm has no record of a task that it had not yet separated from the other pending tasks of its array.
            status = JobStatus(state="CANCELLED", state_reason="None", exit_code=0, interrupt_signal=0)
            when = msgspec.structs.replace(jobs[0].time, end=int(time.time()), elapsed=0)
            await self._views.record_ended(user, CachedJob(msgspec.structs.replace(jobs[0], status=status, time=when)))

    async def hold(self, user: str, job_id: str) -> None:
        await self._control(user, "hold", job_id)

    async def release(self, user: str, job_id: str) -> None:
        await self._control(user, "release", job_id)

    async def _control(self, user: str, command: str, job_id: str) -> None:
        await self._find_own(user, job_id)
        try:
            done = await self._slurm.act(user, "scontrol", command, job_id)
        finally:
            self._views.change(user)
        if done.exit_status != 0:
            said = complaints(done)
            raise refusal("scontrol", done) or InvalidRequestError(
                f"Slurm refused to {command} job {job_id}: {said[-1] if said else f'exit status {done.exit_status}'}",
                hint="Only jobs that wait can be held and released.",
                details=said,
            )

    async def attach(self, user: str, job_id: str, command: str) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise InvalidRequestError(f"The command cannot be read: {error}.", hint="Close the quotation.") from error
        if not words or "\0" in command:
            raise InvalidRequestError("A command is required.", hint="Send a program and its arguments.")
        jobs = await self._find_own(user, job_id)
        if len(jobs) != 1 or normalize_state(jobs[0].status.state) is not JobState.RUNNING:
            raise InvalidRequestError(f"Job {job_id} is not running.", hint="Wait until it runs; name one array task.")
        # srun accepts only Slurm's own number of an array task.
        rows = await read_queue_fields(self._slurm, user, None, ("JobArrayID", "JobID"), [job_id])
        number = next((row["JobID"] for row in rows if row["JobArrayID"] == jobs[0].job_id), job_id)
        streams = ["--input=none", "--output=none", "--error=none"]
        done = await self._slurm.act(user, "srun", f"--jobid={number}", "--overlap", *streams, "--", *words)
        if done.exit_status != 0:
            said = complaints(done)
            what = said[0] if said else f"exit status {done.exit_status}"
            raise refusal("srun", done) or InvalidRequestError(
                f"The command failed in job {job_id}: {what}", hint="Try it in a batch script.", details=said
            )

    async def nodes(self, user: str) -> list[Node]:
        return await resources.read_nodes(self._slurm, checked_user(user))

    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        return await resources.read_partitions(self._slurm, checked_user(user), show_hidden)

    async def reservations(self, user: str) -> list[Reservation]:
        return await resources.read_reservations(self._slurm, checked_user(user))

    async def accounts(self, user: str) -> list[Account]:
        return await resources.read_accounts(self._slurm, checked_user(user))

    async def allocations(self, user: str) -> list[AllocationInfo]:
        return await read_allocations(self._slurm, checked_user(user))

    async def ask_slurm(
        self, user: str, program: str, arguments: Sequence[str], environment: Sequence[str], me: str
    ) -> Completed:
        # The output is Slurm's own, for the user. The gateway neither parses nor stores it.
        words = await asyncio.to_thread(queries.checked, program, arguments, checked_user(user), me)
        return await self._slurm.ask(user, queries.variables(environment), program, *words)

    async def ping(self) -> str:
        if self._options.observer is not None:
            if self._rest is not None:
                return await self._rest.ping(self._options.observer)
            output = await self._slurm.read(self._options.observer, "scontrol", "ping")
            return output.decode(errors="replace").strip()
        return self._slurm.last_answer()

    async def _read_site(self, user: str) -> Site:
        return await resources.read_site(self._slurm, user)

    async def _submit(self, user: str, job: JobDescription, tag: str) -> str:
        timeout = self._options.submit_timeout
        line = await asyncio.to_thread(submission.prepare, job, tag, sbatch=self._slurm.path("sbatch"), timeout=timeout)
        return submission.job_id_of(await self._slurm.run(user, line.argv, input=line.input, timeout=timeout))

    async def _submit_many(self, user: str, jobs: Sequence[tuple[JobDescription, str]]) -> list[str | CrestlineError]:
        found: list[str | CrestlineError] = [_UNREACHED] * len(jobs)
        ready: list[tuple[int, CommandLine]] = []
        for number, (job, tag) in enumerate(jobs):
            try:
                sbatch, timeout = self._slurm.path("sbatch"), self._options.submit_timeout
                line = await asyncio.to_thread(submission.prepare, job, tag, sbatch=sbatch, timeout=timeout)
                ready.append((number, line))
            except CrestlineError as error:
                found[number] = error
        async with asyncio.TaskGroup() as group:
            for first in range(min(_SESSIONS, len(ready))):
                group.create_task(self._submit_in_one_session(user, ready[first::_SESSIONS], found))
        return found

    async def _submit_in_one_session(
        self, user: str, jobs: Sequence[tuple[int, CommandLine]], found: list[str | CrestlineError]
    ) -> None:
        """Run several sbatch commands in one session and store the result of each job in `found` by its number."""
        timeout = self._submission_timeout(len(jobs))
        line, mark = combine([each for _, each in jobs], timeout)
        try:
            done = await self._slurm.run(user, line.argv, input=line.input, timeout=timeout)
        except CrestlineError as error:
            for number, _ in jobs:
                found[number] = error
            return
        for (number, _), outcome in zip(jobs, outcomes(done, mark, len(jobs)), strict=True):
            if outcome is not None:
                try:
                    found[number] = submission.job_id_of(outcome)
                except CrestlineError as error:
                    found[number] = error

    def _submission_timeout(self, count: int) -> float:
        return self._options.submit_timeout + count * _EACH

    async def _full_id(self, user: str, job_id: str) -> str | None:
        return job_id if job_ids.is_job_id(job_id) else None

    async def _hides_other_users(self, user: str) -> bool:
        return (await self._site(user)).private_jobs

    async def _find(self, user: str, tag: str) -> str | None:
        outage: GatewayUnavailableError | None = None
        try:
            for row in await read_queue_fields(self._slurm, user, user, ("JobArrayID", "Comment")):
                if tag in row["Comment"]:
                    return job_ids.family(row["JobArrayID"])
        except GatewayUnavailableError as error:
            outage = error
        fields = ("JobID", "Comment", "SubmitLine")
        span = f"--starttime=now-{_KEY_DAYS}days"
        for row in await read_rows(self._slurm, user, "sacct", fields, "--allocations", f"--user={user}", span):
            if tag in row["Comment"] or tag in row["SubmitLine"]:
                return job_ids.family(row["JobID"])
        if outage is not None:
            raise outage
        return None


class _Source(JobSource):
    """Slurm as the source of a `JobCache`."""

    def __init__(
        self,
        slurm: SlurmCommands,
        rest: Slurmrestd | None,
        site: Callable[[str], Awaitable[Site]],
        whole: SlurmQueue,
    ) -> None:
        self._slurm = slurm
        self._rest = rest
        self._whole = whole
        self._site = site

    async def queue(self, user: str, owner: str | None, ids: Collection[str] | None = None) -> list[CachedJob]:
        if self._rest is None:
            if owner is None and ids is None:
                return await self._whole.read(user)
            return await read_queue(self._slurm, user, owner, ids)
        entries, cut_short = await self._rest.queue(user, owner, ids)
        return entries + (await read_queue(self._slurm, user, owner, cut_short) if cut_short else [])

    async def accounting(self, user: str, ids: Collection[str]) -> list[CachedJob]:
        return await read_accounting(self._slurm, user, ids)

    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        return await read_history(self._slurm, user, owner, since)

    async def retention(self, user: str) -> float:
        return (await self._site(user)).retention

    def family(self, job_id: str) -> str:
        return job_ids.family(job_id)

    def is_collapsed_array(self, job_id: str) -> bool:
        return "[" in job_id

    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        if not job_ids.holds(entry.job.job_id, job_id):
            return None
        return CachedJob(msgspec.structs.replace(entry.job, job_id=job_id))
