"""The object that a user holds: one system behind one gateway."""

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
    """A system's jobs and files; made by `crestline.connect` and used in an `async with`.

    All connections of one event loop to the same system with the same identity share one set of sockets, one token and
    one job monitor, so opening another one costs nothing.

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
        self._leave: Callable[[], None] | None = None
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
                self._leave = partial(session_cache.save, authorizer, connection.backend.description)
                self._leave()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> Self:
        """What `async with` does first, for those who cannot use it; `close` must follow."""
        return await self.__aenter__()

    async def close(self) -> None:
        """Let go of the connection; its last user closes it."""
        if self._connection is not None:
            self._connection = None
            if self._leave is not None:
                self._leave()
            await shared.release(self._key)

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("The connection is not open; use it in an `async with`.")
        return self._connection

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the gateway offers beyond the required calls; empty on plain FirecREST."""
        return self.backend.capabilities

    @property
    def monitor(self) -> JobMonitor:
        """The watcher behind `watch` and `wait`; `monitor.snapshot(id)` is for those who are asked themselves."""
        return self.connection.monitor

    @property
    def name(self) -> str:
        """Name of the system, as in its gateway's URLs."""
        return self.backend.system_name

    @property
    def target(self) -> str:
        """`system@site`: what `connect` takes to come here again."""
        return f"{self.name}@{self._site.name}"

    @property
    def api(self) -> str:
        """The facility API that the site speaks, such as `iri`; `firecrest` is also that of a Crestline gateway."""
        return self._site.api

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway's API."""
        return self.backend.gateway_url

    def __repr__(self) -> str:
        return f"System({self._asked or ''}@{self._site.name or self._site.url})"

    # jobs

    async def submit(self, spec: JobSpec, *, key: str | None = None) -> Job:
        """Submit a job, once.

        Args:
            key: names this attempt, in whatever process; a second call with it finds the job of the first.

        Returns:
            the job, in state SUBMITTED, or as it is if an earlier call with this key has submitted it.

        Raises:
            InvalidRequestError: the job itself is wrong.
            SubmitOutcomeUnknownError: repeat with the same key.
        """
        return await self.connection.submission.submit(spec, key)

    async def submit_many(
        self, specs: Sequence[JobSpec], keys: Sequence[str] | None = None, *, keys_are_new: bool = False
    ) -> list[Job | CrestlineError]:
        """Submit many jobs, each once, in as few requests as the gateway allows.

        Args:
            specs: the jobs.
            keys: names each attempt, as in `submit`; repeat all of them, or those that failed, with the same keys.
            keys_are_new: the keys were never used before, so plain FirecREST need not be asked for their jobs first.

        Returns:
            of each the job or the error that `submit` would have raised, in their order.
        """
        return await self.connection.submission.submit_many(specs, keys, keys_are_new=keys_are_new)

    async def job(self, job_id: str) -> Job:
        """A job as the scheduler reports it now; an array as one job.

        Raises:
            JobNotFoundError: there is none, or not yet: a fresh job may be invisible for some seconds.
        """
        job = merge_answer(await self.backend.jobs.get(job_id), job_id)
        if job is None:
            raise JobNotFoundError(
                f"The scheduler does not know job {job_id}.", hint="Check the job id; old jobs are forgotten."
            )
        return job

    async def array_tasks(self, job: Job | str) -> list[Job]:
        """The elements of an array, in the order of their indexes; a job that is none is its only element.

        They have their `stdout` and `stderr` where the gateway says those of single elements.

        Raises:
            JobNotFoundError: as `job`.
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
        """The jobs that wait, run, or ended not long ago.

        Args:
            window: how many seconds back a job may have ended; None: the gateway's default, usually a day.
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
        """The job that matches, where its id got lost between its submission and now; see `client.lookup`."""
        return await find_job(self.backend, matches, self._policy)

    def watch(self, job: Job | str) -> AsyncGenerator[JobEvent, None]:
        """The job's state and every change of it, until it has ended.

        Raises:
            JobNotFoundError: the scheduler does not know it, confirmed over a minute; of an id given as text over
                `PollPolicy.unseen_timeout`.
        """
        return self.monitor.watch(job)

    async def wait(self, job: Job | str, *, timeout: float | None = None, check: bool = False) -> Job:
        """The job once it has ended, however it ended.

        Args:
            timeout: seconds.
            check: raise for a job that did not complete.

        Raises:
            WaitTimeoutError: the job has not ended in time; it continues.
            JobFailedError: with `check`.
            JobNotFoundError: as `watch`.
        """
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.watch(job)) as events:
                async for event in events:
                    last = event.job
        except TimeoutError:
            job_id = job if isinstance(job, str) else job.job_id
            raise WaitTimeoutError(
                f"Job {job_id} has not ended within {timeout:g} s.", hint="It goes on; wait for it again."
            ) from None
        if check and not last.state.is_success:
            raise JobFailedError(describe_end(last), last, hint=end_hint(last) or "Look at its output.")
        return last

    async def cancel(self, job: Job | str) -> None:
        """End a job; one that has ended is not an error.

        Raises:
            JobNotFoundError: the job does not exist.
        """
        await self.backend.jobs.cancel(job if isinstance(job, str) else job.job_id)

    async def hold(self, job: Job | str) -> None:
        """Keep a job that waits from starting until it is released.

        Raises:
            JobNotFoundError: the job does not exist.
            InvalidRequestError: it does not wait any more.
            UnsupportedError: the gateway or its scheduler holds no jobs; Crestline's does on `local` and Slurm.
        """
        await self.backend.jobs.hold(job if isinstance(job, str) else job.job_id)

    async def release(self, job: Job | str) -> None:
        """Let a held job start; errors as for `hold`."""
        await self.backend.jobs.release(job if isinstance(job, str) else job.job_id)

    async def usage(self, job: Job | str) -> list[JobUsage]:
        """What a job has used of what it holds or held; several for an array.

        Raises:
            JobNotFoundError: the job does not exist.
            UnsupportedError: the API or its scheduler does not tell; of Crestline's gateways those of Slurm do, and
                `local` once a job has ended.
        """
        return await self.backend.jobs.usage(job if isinstance(job, str) else job.job_id)

    async def metadata(self, job: Job | str) -> Job:
        """The job with its `script`, `stdin`, `stdout` and `stderr`; of an array those of its first element.

        For a job given by its id nothing else is set.

        Raises:
            JobNotFoundError: the job does not exist, or not yet.
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
        """The text of a log while it is written, to its end when the job has ended.

        Args:
            log: its path, or a job that `metadata` has told where its `stdout` goes.
            job: who writes it; None for a path that is followed without an end.
            position: where an earlier follower stood (`follower.position`); None: the beginning.
            max_interval: seconds between two looks at a log to which nothing is added.

        Raises:
            InvalidRequestError: it is not known where the job's output goes.
        """
        if isinstance(log, Job):
            if log.stdout is None:
                raise InvalidRequestError(
                    f"It is not known where job {log.job_id} writes.", hint="Ask `metadata` for the job first."
                )
            log, job = log.stdout, log
        writer = job

        def finished() -> bool:
            return writer is not None and self.monitor.snapshot(writer).is_finished

        return follow(
            self.connection.files.log_source(log), finished=finished, position=position, max_interval=max_interval
        )

    def output(self, job: Job, *, position: str | None = None, throttle: Turn | None = None) -> JobOutput:
        """The lines of a job's stdout and stderr while it writes them, to their ends when it has ended.

        Args:
            job: one that `metadata` has told where its output goes; of one that writes nowhere nothing comes.
            position: where an earlier iteration stood (`output.position`); None: the beginning.
            throttle: awaited for every request, by those who share a budget of them.

        Raises:
            InvalidRequestError: `position` is of another gateway.
        """
        paths = {"stdout": job.stdout, "stderr": job.stderr if job.stderr != job.stdout else None}
        sources = {stream: self.connection.files.log_source(path) for stream, path in paths.items() if path is not None}
        return JobOutput(sources, lambda: self.monitor.snapshot(job).is_finished, position, throttle)

    # the system

    @property
    def scheduler_type(self) -> str:
        """`slurm` or `pbs`: whose words the gateway speaks for this system."""
        return self.backend.scheduler_type

    async def describe(self) -> dict[str, Any]:
        """The system's entry in the gateway's `/status/systems`: scheduler, file systems, health, limits."""
        return await self.backend.system.describe()

    async def default_workdir(self) -> str:
        """The user's directory on the system's default file system."""
        return await self.backend.system.default_workdir()

    async def resolve_path(self, path: str) -> str:
        """Return the absolute path on the system; a relative one is below the user's directory (`default_workdir`)."""
        if path.startswith("/"):
            return path
        return posixpath.join(await self.default_workdir(), path)

    async def nodes(self) -> list[Node]:
        """The compute nodes with their states, as far as the gateway tells."""
        return await self.backend.system.nodes()

    async def partitions(self) -> list[Partition]:
        """The partitions (queues)."""
        return await self.backend.system.partitions()

    async def accounts(self) -> list[Account]:
        """The accounts that the user may charge.

        Raises:
            UnsupportedError: the API does not tell; FirecREST does since 2.6.
        """
        return await self.backend.system.accounts()

    async def allocations(self) -> list[Allocation]:
        """What the user's accounts may use and have used, one entry for each account and unit.

        Raises:
            UnsupportedError: the API or its scheduler does not tell; of Crestline's gateways those of Slurm do, and
                facilities of the IRI API.
        """
        return await self.backend.system.allocations()

    async def remaining_submissions(self) -> int | None:
        """How many more jobs the scheduler takes from the user now (`MaxSubmitJobs` of Slurm).

        Returns:
            The number, or None if it is unlimited or not reported. Crestline's gateways report it for Slurm.
        """
        try:
            limit = await submit_limit(self.backend.system)
            if limit is None:
                return None
            jobs = await self.jobs()
        except CrestlineError:  # the refusal of a submission tells it, too
            return None
        return max(limit - sum(not job.is_finished for job in jobs), 0)

    async def reservations(self) -> list[Reservation]:
        """The advance reservations."""
        return await self.backend.system.reservations()

    @property
    def traffic(self) -> Traffic:
        """What all users of this connection have sent and received."""
        return self.backend.traffic
