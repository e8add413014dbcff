"""`System`: the jobs and files of one system behind one gateway."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from crestline.client import shared
from crestline.client.auth import Authorizer
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import JobFilter
from crestline.client.backends.registry import create_backend
from crestline.client.config import Site
from crestline.client.connection import Connection
from crestline.client.job_ids import merge_answer
from crestline.client.logs import Follower, JobOutput, Turn, follow
from crestline.client.lookup import find_job
from crestline.client.monitor import JobMonitor
from crestline.client.network import injected
from crestline.client.policy import Policy
from crestline.client.session_cache import SessionCache
from crestline.client.submit_limits import submit_limit
from crestline.client.system_files import SystemFiles
from crestline.client.traffic import Traffic
from crestline.client.watched_job import JobEvent
from crestline.model import (
    Account,
    Allocation,
    CrestlineError,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobSpec,
    JobUsage,
    Node,
    Partition,
    Reservation,
    WaitTimeoutError,
    describe_end,
    end_hint,
)


class System(SystemFiles):
    """The jobs and files of a system; `crestline.connect` creates it, and `async with` opens and closes it.

    All connections of one event loop to the same system with the same identity share one set of sockets, one token and
    one job monitor. A further connection therefore sends no request.

    Paths are absolute paths on the system, and times are in seconds. Every method that sends a request raises
    `GatewayUnavailableError` if the gateway does not answer within `RetryPolicy.total_timeout`, `AuthenticationError`
    if the credentials are invalid, and `PermissionDeniedError` if the user may not do this.

    Example::

        async with crestline.connect("daint@cscs") as daint:
            await daint.upload("structures/", "/scratch/u/run1")
            job = await daint.submit(JobSpec(script=script, workdir="/scratch/u/run1"), key="campaign/42")
            job = await daint.wait(job, check=True)
            await daint.download("/scratch/u/run1/out.xml", "out.xml")
    """

    def __init__(
        self,
        site: Site,
        system: str | None,
        policy: Policy,
        authorizer: Authorizer | None = None,
        session_cache: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        injected_transport, injected_authorizer = injected()
        self._site = site
        self._authorizer = authorizer or injected_authorizer
        self._asked = system
        self._policy = policy
        self._key: Any = None
        self._handover_file = session_cache
        self._transport = transport or injected_transport
        self._close: Callable[[], None] | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        if self._connection is None:
            authorizer = self._authorizer or self._site.authorizer()
            trust = self._site.trust()
            url, asked = self._site.url.rstrip("/"), self._asked
            key = (
                self._site.api,
                url,
                (asked or "").casefold(),
                authorizer.identity,
                self._site.account,
                self._site.verify,
                self._site.ca_file,
                msgspec.json.encode(self._site.options, order="sorted"),
                self._policy,
                self._transport,
            )

            options = msgspec.json.encode(self._site.options, order="sorted").decode()
            about = f"{self._site.api} {url} {asked} {authorizer.identity} {options}"
            session_cache = SessionCache(self._handover_file, about) if self._handover_file else None
            known = session_cache.description if session_cache else None
            if session_cache:
                session_cache.load(authorizer)

            def make() -> Connection:
                backend = create_backend(
                    self._site,
                    asked,
                    authorizer,
                    account=self._site.account,
                    verify=trust,
                    policy=self._policy,
                    known=known,
                    transport=self._transport,
                )
                return Connection(backend, self._policy)

            self._connection = connection = await shared.acquire(key, make)
            self._key = key
            if session_cache:
                self._close = partial(session_cache.save, authorizer, connection.backend.description)
                self._close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> Self:
        """Open the connection without `async with`. Call `close` afterwards.

        Returns:
            this object.

        Raises:
            ConfigError: the site's settings are incomplete or invalid.
            SystemNotFoundError: the gateway has no system of that name.
        """
        return await self.__aenter__()

    async def close(self) -> None:
        """Release the connection. The last user of a shared connection closes its sockets."""
        if self._connection is not None:
            self._connection = None
            if self._close is not None:
                self._close()
            await shared.release(self._key)

    @property
    def connection(self) -> Connection:
        """The open connection.

        Raises:
            RuntimeError: the connection is not open.
        """
        if self._connection is None:
            raise RuntimeError("The connection is not open; use it in an `async with`.")
        return self._connection

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Features that the gateway offers beyond FirecREST v2; empty on plain FirecREST."""
        return self.backend.capabilities

    @property
    def monitor(self) -> JobMonitor:
        """The monitor that `watch` and `wait` use. `monitor.snapshot(id)` returns a state without waiting."""
        return self.connection.monitor

    @property
    def name(self) -> str:
        """Name of the system, as in its gateway's URLs."""
        return self.backend.system_name

    @property
    def target(self) -> str:
        """The target `system@site`, as `connect` accepts it."""
        return f"{self.name}@{self._site.name}"

    @property
    def api(self) -> str:
        """Name of the facility API of the site, `firecrest` (or a Crestline gateway), `iri` or that of a plug-in."""
        return self._site.api

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway's API."""
        return self.backend.gateway_url

    def __repr__(self) -> str:
        return f"System({self._asked or ''}@{self._site.name or self._site.url})"

    # jobs

    async def submit(self, spec: JobSpec, *, key: str | None = None) -> Job:
        """Submit a job, exactly once per key.

        Args:
            spec: the job.
            key: name of this attempt, valid across processes. A second call with the same key finds the first job.
                None: every call submits a new job.

        Returns:
            the job in state SUBMITTED, or in its current state if an earlier call with this key submitted it.

        Raises:
            InvalidRequestError: the gateway or the scheduler refuses the job.
            SubmitLimitError: the user has as many jobs as the scheduler allows.
            ConflictError: the key was used for another job.
            SubmitOutcomeUnknownError: the outcome is unknown. Repeat the call with the same key.

        Example::

            job = await daint.submit(JobSpec(script=script, nodes=2, time_limit="00:10:00"), key="campaign/42")
        """
        return await self.connection.submission.submit(spec, key)

    async def submit_many(
        self, specs: Sequence[JobSpec], keys: Sequence[str] | None = None, *, keys_are_new: bool = False
    ) -> list[Job | CrestlineError]:
        """Submit many jobs, each once, in as few requests as the gateway allows.

        Args:
            specs: the jobs.
            keys: one key for each job, as in `submit`. To retry, pass the same keys for all jobs or for those that
                failed.
            keys_are_new: True if the keys were never used before. On plain FirecREST this skips the search for
                earlier jobs.

        Returns:
            for each job, in the same order, the job or the error that `submit` would have raised.
        """
        return await self.connection.submission.submit_many(specs, keys, keys_are_new=keys_are_new)

    async def job(self, job_id: str) -> Job:
        """Fetch a job as the scheduler reports it now; an array as one job.

        Raises:
            JobNotFoundError: the scheduler does not know the job. A new job may be invisible for some seconds.
        """
        job = merge_answer(await self.backend.jobs.get(job_id), job_id)
        if job is None:
            raise JobNotFoundError(
                f"The scheduler does not know job {job_id}.", hint="Check the job id; old jobs are forgotten."
            )
        return job

    async def array_tasks(self, job: Job | str) -> list[Job]:
        """Fetch the tasks of an array, in the order of their indexes. A single job is its own only task.

        Each task has its `stdout` and `stderr` if the gateway reports the paths of single tasks.

        Raises:
            JobNotFoundError: the scheduler does not know the job.
        """
        job_id = job if isinstance(job, str) else job.job_id
        found = await self.backend.jobs.get(job_id)
        found = [each for each in found if not each.job_id.isalnum()] or found  # not once more under their own ids
        try:
            paths = {each.job_id: each for each in await self.backend.jobs.metadata(job_id)}
        except JobNotFoundError:  # known to the accounting alone
            paths = {}
        elements = [
            msgspec.structs.replace(each, stdout=paths[each.job_id].stdout, stderr=paths[each.job_id].stderr)
            if each.job_id in paths
            else each
            for each in found
        ]
        return sorted(elements, key=lambda each: (len(each.job_id), each.job_id))

    async def jobs(
        self,
        *,
        ids: Sequence[str] | None = None,
        name: str | None = None,
        account: str | None = None,
        all_users: bool = False,
        window: int | None = None,
    ) -> list[Job]:
        """List the jobs that wait, run, or ended recently.

        Args:
            ids: only these jobs.
            name: only jobs with this name.
            account: only jobs that are charged to this account.
            all_users: True to include the jobs of other users, as far as the scheduler shows them.
            window: maximum age of a job's end in seconds. None: the gateway's default, usually a day.
        """
        return await self.backend.jobs.list(
            JobFilter(
                ids=tuple(ids) if ids is not None else None,
                name=name,
                account=account,
                all_users=all_users,
                window=window,
            )
        )

    async def find(self, matches: Callable[[Job], bool]) -> Job | None:
        """Search the listed jobs for one that `matches`, for a job whose id was lost after its submission.

        Returns:
            the job, or None if the search finds no job, repeatedly (see `client.lookup`).
        """
        return await find_job(self.backend, matches, self._policy)

    def watch(self, job: Job | str) -> AsyncGenerator[JobEvent, None]:
        """Iterate over the job's state and each of its changes, until the job has ended.

        Raises:
            JobNotFoundError: the scheduler has not shown the job for `PollPolicy.missing_timeout`, or, for an id that
                this connection did not submit, for `PollPolicy.unseen_timeout`.

        Example::

            async for event in daint.watch("4711"):
                print(event.state, event.reason)
        """
        return self.monitor.watch(job)

    async def wait(self, job: Job | str, *, timeout: float | None = None, check: bool = False) -> Job:
        """Wait until the job has ended, in whatever state.

        Args:
            job: the job or its id.
            timeout: seconds to wait at most. None: without limit.
            check: True to raise JobFailedError if the job did not complete.

        Returns:
            the job in its final state.

        Raises:
            WaitTimeoutError: the job has not ended within `timeout`. It continues.
            JobFailedError: with `check`, the job ended in another state than COMPLETED.
            JobNotFoundError: see `watch`.
        """
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.watch(job)) as events:
                async for event in events:
                    last = event.job
        except TimeoutError:
            job_id = job if isinstance(job, str) else job.job_id
            raise WaitTimeoutError(
                f"Job {job_id} has not ended within {timeout:g} s.", hint="The job continues; wait for it again."
            ) from None
        if check and not last.state.is_success:
            raise JobFailedError(describe_end(last), last, hint=end_hint(last) or "Look at its output.")
        return last

    async def cancel(self, job: Job | str) -> None:
        """Cancel a job. For a job that has already ended, the call has no effect.

        Raises:
            JobNotFoundError: the job does not exist.
        """
        await self.backend.jobs.cancel(job if isinstance(job, str) else job.job_id)

    async def hold(self, job: Job | str) -> None:
        """Hold a waiting job until `release`.

        Raises:
            JobNotFoundError: the job does not exist.
            InvalidRequestError: the job no longer waits.
            UnsupportedError: the gateway or its scheduler cannot hold jobs. Crestline's gateway can, on `local` and
                Slurm.
        """
        await self.backend.jobs.hold(job if isinstance(job, str) else job.job_id)

    async def release(self, job: Job | str) -> None:
        """Release a held job.

        Raises:
            JobNotFoundError: the job does not exist.
            InvalidRequestError: the job no longer waits.
            UnsupportedError: see `hold`.
        """
        await self.backend.jobs.release(job if isinstance(job, str) else job.job_id)

    async def usage(self, job: Job | str) -> list[JobUsage]:
        """Fetch how much of its processor time, memory and GPUs a job has used; one entry for each task of an array.

        Raises:
            JobNotFoundError: the job does not exist.
            UnsupportedError: the API or its scheduler does not report usage. Crestline's gateway reports it on Slurm,
                and on `local` once a job has ended.
        """
        return await self.backend.jobs.usage(job if isinstance(job, str) else job.job_id)

    async def metadata(self, job: Job | str) -> Job:
        """Fetch the `script`, `stdin`, `stdout` and `stderr` of a job; of an array those of its first task.

        Returns:
            a copy of `job` with these fields. For an id, the other fields are not set.

        Raises:
            JobNotFoundError: the scheduler does not know the job. A new job may be invisible for some seconds.
        """
        found = (await self.backend.jobs.metadata(job if isinstance(job, str) else job.job_id))[0]
        if isinstance(job, str):
            return found
        return msgspec.structs.replace(
            job, script=found.script, stdin=found.stdin, stdout=found.stdout, stderr=found.stderr
        )

    def follow(
        self,
        log: Job | str,
        *,
        job: Job | str | None = None,
        position: str | None = None,
        max_interval: float = 5.0,
    ) -> Follower:
        """Iterate over the text of a log while a job writes it, until the job has ended and the text is complete.

        Args:
            log: path of the log, or a job with its `stdout` (see `metadata`).
            job: the job that writes the log. None: follow the path without end.
            position: `position` of an earlier follower, to continue there. None: the beginning.
            max_interval: longest time between two reads of a log that does not grow, in seconds.

        Raises:
            InvalidRequestError: the job's `stdout` is not set.

        Example::

            async for text in daint.follow(await daint.metadata(job)):
                print(text, end="")
        """
        if isinstance(log, Job):
            if log.stdout is None:
                raise InvalidRequestError(
                    f"Unknown output path of job {log.job_id}.", hint="Call `metadata` for the job first."
                )
            log, job = log.stdout, log
        writer = job

        def finished() -> bool:
            return writer is not None and self.monitor.snapshot(writer).is_finished

        return follow(
            self.connection.files.log_source(log), finished=finished, position=position, max_interval=max_interval
        )

    def output(self, job: Job, *, position: str | None = None, throttle: Turn | None = None) -> JobOutput:
        """Iterate over the lines of a job's stdout and stderr, until the job has ended and both are complete.

        Args:
            job: a job with its `stdout` and `stderr` (see `metadata`). A stream without a path has no lines.
            position: `position` of an earlier iteration, to continue there. None: the beginning.
            throttle: coroutine function that is awaited before each request, to limit requests of several callers.

        Raises:
            InvalidRequestError: `position` comes from another gateway.
        """
        paths = {"stdout": job.stdout, "stderr": job.stderr if job.stderr != job.stdout else None}
        sources = {stream: self.connection.files.log_source(path) for stream, path in paths.items() if path is not None}
        return JobOutput(sources, lambda: self.monitor.snapshot(job).is_finished, position, throttle)

    # the system

    @property
    def scheduler_type(self) -> str:
        """Scheduler whose states and options the gateway uses for this system, `slurm` or `pbs`."""
        return self.backend.scheduler_type

    async def describe(self) -> dict[str, Any]:
        """Fetch the system's entry of `GET /status/systems`: scheduler, file systems, health and limits."""
        return await self.backend.system.describe()

    async def default_workdir(self) -> str:
        """Return the absolute path of the user's directory on the system's default file system."""
        return await self.backend.system.default_workdir()

    async def resolve_path(self, path: str) -> str:
        """Return the absolute path on the system; a relative one is below the user's directory (`default_workdir`)."""
        if path.startswith("/"):
            return path
        return posixpath.join(await self.default_workdir(), path)

    async def nodes(self) -> list[Node]:
        """Fetch the compute nodes with their states."""
        return await self.backend.system.nodes()

    async def partitions(self) -> list[Partition]:
        """Fetch the partitions (queues) of the system."""
        return await self.backend.system.partitions()

    async def accounts(self) -> list[Account]:
        """Fetch the accounts that the user may charge.

        Raises:
            UnsupportedError: the API does not report accounts. FirecREST reports them since 2.6.
        """
        return await self.backend.system.accounts()

    async def allocations(self) -> list[Allocation]:
        """Fetch the budgets of the user's accounts and what they have used; one entry for each account and unit.

        Raises:
            UnsupportedError: the API or its scheduler does not report them. Crestline's gateway on Slurm does, and
                facilities with the IRI API do.
        """
        return await self.backend.system.allocations()

    async def remaining_submissions(self) -> int | None:
        """Return how many more jobs the user may submit now (`MaxSubmitJobs` of Slurm).

        Returns:
            the number of jobs, or None if it is unlimited or not reported. Crestline's gateway reports it on Slurm.
        """
        try:
            limit = await submit_limit(self.backend.system)
            if limit is None:
                return None
            jobs = await self.jobs()
        except CrestlineError:  # a submission beyond the limit is refused with SubmitLimitError anyway
            return None
        return max(limit - sum(not job.is_finished for job in jobs), 0)

    async def reservations(self) -> list[Reservation]:
        """Fetch the advance reservations of the system."""
        return await self.backend.system.reservations()

    @property
    def traffic(self) -> Traffic:
        """Counters of what all users of this connection have sent and received."""
        return self.backend.traffic
