"""The `local` scheduler as the gateway uses it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import crestline
from crestline import cooperative
from crestline.gateway.schedulers.base import JobQuery, Scheduler
from crestline.gateway.schedulers.local import listing, machine
from crestline.gateway.schedulers.local.job_manager import LocalJobManager
from crestline.gateway.schedulers.local.jobs import RUNNING, SUSPENDED, Job
from crestline.gateway.schedulers.local.launch import Launcher
from crestline.gateway.schedulers.local.options import LocalOptions
from crestline.gateway.schedulers.local.store import Store, when_unlocked
from crestline.gateway.schedulers.local.submission import accept, check_dependency
from crestline.gateway.schedulers.registry import SchedulerSetup
from crestline.model import (
    ConfigError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
)
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata
from crestline.wire.extensions import JobUsageInfo
from crestline.wire.status import Account, Node, Partition, Reservation

_RETENTION = 30 * 86400.0
_SLICE = 200  # jobs per step of the event loop


def create_scheduler(setup: SchedulerSetup) -> LocalScheduler:
    """Create the scheduler for `type = "local"`."""
    return LocalScheduler(setup.directory, setup.name, setup.read_options(LocalOptions))


class LocalScheduler(Scheduler):
    """Runs jobs as processes of this machine, all as the gateway's own POSIX user.

    All its data is in `directory`, which one scheduler can use at a time.
    """

    kind = "slurm"
    version = f"local {crestline.__version__}"
    is_exclusive = True
    acts_as_gateway = True

    def __init__(
        self,
        directory: Path,
        name: str,
        config: LocalOptions,
        *,
        kill_wait: float = 5.0,
        retention: float = _RETENTION,
    ) -> None:
        """Create a scheduler, which `start` starts.

        Args:
            directory: directory of its files, created if it does not exist.
            name: name of the system, SLURM_CLUSTER_NAME of its jobs.
            config: nodes and partitions.
            kill_wait: seconds between SIGTERM and SIGKILL.
            retention: seconds after which an ended job is deleted.

        Raises:
            ConfigError: invalid nodes or partitions.
        """
        self._directory = directory.absolute()
        self._name = name
        self._partitions = machine.partition_configs(config)
        self._cluster = machine.build_cluster(config)
        self._kill_wait = kill_wait
        self._retention = retention
        self._lock: int | None = None
        self._store: Store
        self._engine: LocalJobManager
        self._launcher: Launcher

    async def start(self) -> None:
        """Start the job manager. Jobs of an earlier gateway process continue, or appear with their end.

        Raises:
            ConfigError: another scheduler uses the directory.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)  # it holds the environments of jobs
        self._lock = await _lock(self._directory)
        self._store = await asyncio.to_thread(Store, self._directory / "jobs.db")
        self._launcher = Launcher(self._directory, self._name, self._store.home_id, self._kill_wait)
        self._engine = LocalJobManager(self._store, self._cluster, self._launcher, self._retention)
        await when_unlocked(self._engine.start)

    async def stop(self) -> None:
        """Stop the job manager and close the store. Jobs continue."""
        if self._lock is not None:
            await self._engine.stop()
            self._store.close()
            os.close(self._lock)
            self._lock = None

    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        """Submit a job. If `user` has used the key before, return the id of the first job.

        Raises:
            InvalidRequestError: the job could never run. The message gives the reason.
        """
        if known := await self._find(user, key):
            return known
        script, request = await asyncio.to_thread(accept, job, user, self._cluster, self._partitions)
        if request.dependency:
            dependency = request.dependency
            await when_unlocked(lambda: check_dependency(dependency, self._store.progress))
        if known := await self._find(user, key):  # submitted by another request meanwhile
            return known
        tasks = request.tasks.tasks if request.tasks else (None,)

        def store() -> list[Job]:
            return self._store.submit(user, key, time=time.time(), script=script, request=request, tasks=tasks)

        try:
            jobs = await when_unlocked(store)
        except sqlite3.IntegrityError:  # another request stored the same key while this one waited for the lock
            if known := await self._find(user, key):
                return known
            raise
        self._engine.add(jobs)
        return str(jobs[0].submission)

    async def _find(self, user: str, key: str | None) -> str | None:
        return await self.find(user, key) if key is not None else None

    async def find(self, user: str, key: str) -> str | None:
        found = await when_unlocked(lambda: self._store.find(user, key))
        return None if found is None else str(found)

    async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
        if query.ids is not None:
            ids = [pair for each in query.ids if (pair := _parse_id(each))]
            rows = await when_unlocked(lambda: self._store.named(ids), in_thread=True)
            newest = await when_unlocked(
                lambda: [self._engine.newest(row) for row in rows if _matches(row, user, query)]
            )
            found = await self._shown(newest)
        else:
            active = [job for job in self._engine.active() if _matches(job, user, query)]
            found = await when_unlocked(
                lambda: self._ended(user, query), in_thread=True
            )  # in this order, so that the list includes jobs that end meanwhile
            found |= await self._shown(active)
        return [found[number] for number in sorted(found)]

    def _ended(self, user: str, query: JobQuery) -> dict[int, JobInfo]:
        rows = self._store.ended(user, query, time.time())
        return {row.id: listing.job_info(row, self._name) for row in rows}

    async def _shown(self, jobs: Iterable[Job]) -> dict[int, JobInfo]:
        """Return jobs of the job manager by number, yielding to the event loop between slices."""
        infos = {}
        async for job in cooperative.each(jobs, _SLICE):
            infos[job.id] = listing.job_info(job, self._name)
        return infos

    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        jobs = await self._find_own(user, job_id)
        script = (await when_unlocked(lambda: self._store.script(jobs[0].submission))).decode(errors="replace")
        return [listing.job_metadata(job, script) for job in jobs]

    async def usage(self, user: str, job_id: str) -> list[JobUsageInfo]:
        """Return what jobs used until their end. For a running job, return only what it holds."""
        return await asyncio.to_thread(
            lambda jobs: [listing.job_usage(job, self._launcher.usage(job.id)) for job in jobs],
            await self._find_own(user, job_id),
        )

    async def cancel(self, user: str, job_id: str) -> None:
        jobs = await self._find_own(user, job_id)
        async for some in cooperative.slices(jobs, _SLICE):
            await when_unlocked(partial(self._engine.cancel, some, user))

    async def suspend(self, user: str, job_id: str) -> None:
        """Stop the processes of a running job. Its cores and memory stay allocated, and its time limit pauses.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
            InvalidRequestError: the job is not running.
        """
        await self._engine.ask(await self._running(user, job_id), "suspend")

    async def resume(self, user: str, job_id: str) -> None:
        """Resume a suspended job. Raises the errors of `suspend`."""
        await self._engine.ask(await self._running(user, job_id), "resume")

    async def hold(self, user: str, job_id: str) -> None:
        """Hold pending jobs.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
            InvalidRequestError: none of them is pending.
        """
        jobs = await self._find_own(user, job_id)
        if not any(job.is_pending for job in jobs):
            raise InvalidRequestError(f"Job {job_id} does not wait any more.", hint="Only jobs that wait can be held.")
        await when_unlocked(lambda: self._engine.hold(jobs))

    async def release(self, user: str, job_id: str) -> None:
        """Release jobs that were submitted with `--hold` or held.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
        """
        jobs = await self._find_own(user, job_id)
        await when_unlocked(lambda: self._engine.release(jobs))

    async def attach(self, user: str, job_id: str, command: str) -> None:
        """Run `command` inside the running job, split into words as a shell does, but without a shell.

        Returns once it has started.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
            InvalidRequestError: the job is not running, or the command does not exist.
        """
        job = await self._running(user, job_id)
        try:
            argv = shlex.split(command)
        except ValueError as error:
            raise InvalidRequestError(
                f"The command cannot be read: {error}.", hint="Close its quotations, as in a shell."
            ) from error
        if not argv or "\0" in command:
            raise InvalidRequestError("The command is empty, or has a NUL character.", hint="Name a program.")
        task = self._engine.task(job)
        program = os.path.join(task["directory"], argv[0]) if "/" in argv[0] else argv[0]
        if shutil.which(program, path=task["environment"]["PATH"]) is None:
            raise InvalidRequestError(
                f"The command {argv[0][:80]!r} does not exist in the job's environment.",
                hint="Name a program in the job's PATH or an executable file. Shell syntax is not supported.",
            )
        await self._engine.ask(job, "attach", argv)

    async def nodes(self, user: str) -> list[Node]:
        return machine.list_nodes(self._cluster)

    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        return machine.list_partitions(self._cluster, self._partitions)

    async def reservations(self, user: str) -> list[Reservation]:
        return []

    async def accounts(self, user: str) -> list[Account]:
        return [Account(name=user, default=True)]

    async def ping(self) -> str:
        return self._engine.health()

    async def _find_own(self, user: str, job_id: str) -> list[Job]:
        """Return the jobs with the id `job_id`."""
        pair = _parse_id(job_id)
        rows = await when_unlocked(lambda: self._store.named([pair]), in_thread=True) if pair else []
        jobs = await when_unlocked(lambda: [self._engine.newest(row) for row in rows])
        if not jobs:
            raise JobNotFoundError("Job not found.", hint=f"{self._name} does not know job {job_id[:40]!r}.")
        if any(job.user != user for job in jobs):
            raise PermissionDeniedError("Permission denied.", hint=f"Job {job_id} belongs to another user.")
        return jobs

    async def _running(self, user: str, job_id: str) -> Job:
        jobs = [job for job in await self._find_own(user, job_id) if job.state in (RUNNING, SUSPENDED)]
        if len(jobs) != 1:
            verb = "has several running tasks" if jobs else "is not running"
            raise InvalidRequestError(
                f"Job {job_id} {verb}.",
                hint="Name one job, or one task of a job array, that is running.",
            )
        return jobs[0]


def _parse_id(job_id: str) -> tuple[int, int | None] | None:
    match = re.fullmatch(r"(\d{1,18})(?:_(\d{1,9}))?", job_id, re.ASCII)
    return (int(match[1]), None if match[2] is None else int(match[2])) if match else None


def _matches(job: Job, user: str, query: JobQuery) -> bool:
    return (query.all_users or job.user == user) and query.selects(job.request.name, job.request.account)


async def _lock(directory: Path) -> int:
    """Lock the directory for this process. Wait a moment for a process that is about to exit."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        await asyncio.sleep(0.1)
    os.close(descriptor)
    raise ConfigError(
        f"Another gateway already runs the scheduler in {directory}.",
        hint="Stop it, or give this gateway another home directory.",
    )
