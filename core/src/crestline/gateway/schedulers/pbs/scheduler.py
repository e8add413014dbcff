"""The PBS scheduler, based on its commands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from crestline.gateway.hosts import MAX_OUTPUT, Commands, Completed
from crestline.gateway.schedulers.cli_scheduler import CommandScheduler, checked_user
from crestline.gateway.schedulers.job_cache import CachedJob, JobSource
from crestline.gateway.schedulers.pbs import jobs as pbs_jobs
from crestline.gateway.schedulers.pbs import resources, submission
from crestline.gateway.schedulers.pbs.commands import HAS_FINISHED, PbsCommands, complaints, no_answer, refusal
from crestline.gateway.schedulers.pbs.options import PbsOptions
from crestline.gateway.schedulers.pbs.output import Objects, convert_objects
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import JobNotFoundError, UnsupportedError
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata
from crestline.wire.iri import JobRequest
from crestline.wire.status import Account, Node, Partition, Reservation

_RETENTION = 20.0
"""Seconds without a query after which the history is read for jobs that came and went, because qstat lists no ended
jobs."""

_NO_HISTORY = re.compile(r"not configured to maintain job history", re.IGNORECASE)
T = TypeVar("T")
_JSON = ("-f", "-F", "json")


class PbsScheduler(CommandScheduler[resources.Server]):
    """OpenPBS through its commands. A submission carries its tag in a variable of the job's environment.

    Ended jobs come from the server's job history (`job_history_enable`).

    Args:
        name: name of the system.
        commands: runs programs on a machine that has PBS's.
        options: the site's options for PBS.
    """

    kind = "pbs"
    programs = ("qsub", "qstat", "qdel", "pbsnodes")

    def __init__(self, name: str, commands: Commands, options: PbsOptions) -> None:
        self._options = options
        self._pbs = PbsCommands(commands, options)
        self._source = _Source(self._pbs, options.timeout)
        super().__init__(name, self._source, options, pbs_jobs.order)

    def directives(self, job: JobRequest) -> list[str]:
        return submission.directives(job)

    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        names = {job.job_id for job in await self._find_own(user, job_id)}

        def convert(found: Objects) -> list[JobMetadata]:
            return [pbs_jobs.job_metadata(each, values) for each, values in found.items() if each in names]

        return await self._source.read(user, names, convert)

    async def _cancel(self, user: str, job_id: str, jobs: Sequence[JobInfo]) -> None:
        done = await self._pbs.act(user, "qdel", job_id)
        if done.exit_status != 0 and not HAS_FINISHED.search(" ".join(complaints(done))):
            error = refusal("qdel", done) or no_answer("qdel", done)
            if not isinstance(error, JobNotFoundError):  # the job has ended meanwhile
                raise error

    async def attach(self, user: str, job_id: str, command: str) -> None:
        raise UnsupportedError("PBS cannot run a command inside a job.", hint="Start it from the batch script.")

    async def nodes(self, user: str) -> list[Node]:
        return await resources.read_nodes(self._pbs, checked_user(user))

    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        return await resources.read_partitions(self._pbs, checked_user(user))

    async def reservations(self, user: str) -> list[Reservation]:
        return await resources.read_reservations(self._pbs, checked_user(user))

    async def accounts(self, user: str) -> list[Account]:
        return []  # PBS has no list of accounts

    async def ping(self) -> str:
        if self._options.observer is not None:
            server = await self._read_site(self._options.observer)
            return f"PBS {server.version} on {server.name} answers."
        return self._pbs.last_answer()

    async def _read_site(self, user: str) -> resources.Server:
        return await resources.read_server(self._pbs, user)

    async def _submit(self, user: str, job: JobDescription, tag: str) -> str:
        timeout = self._options.submit_timeout
        line = await asyncio.to_thread(submission.prepare, job, tag, qsub=self._pbs.path("qsub"), timeout=timeout)
        directory = job.working_directory
        done = await self._pbs.run(user, line.argv, input=line.input, cwd=directory, timeout=timeout)
        return submission.job_id_of(done)

    async def _find(self, user: str, tag: str) -> str | None:
        def convert(found: Objects) -> str | None:
            for job_id, values in found.items():
                if pbs_jobs.key_of(values) == tag and pbs_jobs.owner(values) == user:
                    return pbs_jobs.family(job_id)
            return None

        return await self._source.read(user, None, convert)

    async def _full_id(self, user: str, job_id: str) -> str | None:
        if not pbs_jobs.is_job_id(job_id):
            return None
        return job_id if "." in job_id else pbs_jobs.full_id(job_id, (await self._site(user)).name)


class _Source(JobSource):
    """PBS as the source of a `JobCache`."""

    def __init__(self, pbs: PbsCommands, timeout: float) -> None:
        self._pbs = pbs
        self._time_limit = TimeLimit(timeout)
        self._has_history = True

    async def queue(self, user: str, owner: str | None, ids: Collection[str] | None = None) -> list[CachedJob]:
        words = sorted({self.family(each) for each in ids}) if ids is not None else []
        limit = self._time_limit if ids is None else None
        output = _judged(
            await self._pbs.read(user, "qstat", "-t", *_JSON, *words, time_limit=limit, max_output=MAX_OUTPUT)
        )
        return await convert_objects(output, "Jobs", lambda jobs: pbs_jobs.entries_of(_of(jobs, owner)))

    async def accounting(self, user: str, ids: Collection[str]) -> list[CachedJob]:
        return await self.read(user, ids, pbs_jobs.entries_of)

    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        return await self.read(user, None, lambda jobs: pbs_jobs.entries_of(_of(jobs, owner)))

    async def retention(self, user: str) -> float:
        return _RETENTION

    def family(self, job_id: str) -> str:
        return pbs_jobs.family(job_id)

    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        return None  # PBS lists all jobs

    async def read(self, user: str, ids: Collection[str] | None, convert: Callable[[Objects], T]) -> T:
        """Return what `convert` makes of all attributes of jobs, including ended ones that the server remembers."""
        words = sorted(set(ids)) if ids is not None else []
        if self._has_history:
            done = await self._pbs.read(user, "qstat", "-x", "-t", *_JSON, *words, max_output=MAX_OUTPUT)
            if not _NO_HISTORY.search(" ".join(complaints(done))):
                return await convert_objects(_judged(done), "Jobs", convert)
            self._has_history = False
        done = await self._pbs.read(user, "qstat", "-t", *_JSON, *words, max_output=MAX_OUTPUT)
        return await convert_objects(_judged(done), "Jobs", convert)


def _judged(done: Completed) -> bytes:
    """Return qstat's output. Unknown or finished jobs among many are not a failure."""
    if done.exit_status == 0 or all(
        re.search(r"unknown job ?id|job has finished", line, re.IGNORECASE) for line in complaints(done)
    ):
        return done.stdout
    raise refusal("qstat", done) or no_answer("qstat", done)


def _of(jobs: Objects, owner: str | None) -> Objects:
    return {job_id: values for job_id, values in jobs.items() if owner is None or pbs_jobs.owner(values) == owner}
