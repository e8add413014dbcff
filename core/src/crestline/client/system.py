"""The object that a user holds: one system behind one gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from crestline.client import files, shared
from crestline.client.backends.base import Backend, JobFilter
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.client.config import Site
from crestline.client.files import Progress, Report
from crestline.client.job_ids import chosen
from crestline.client.logs import Follower, follow
from crestline.client.monitor import JobMonitor
from crestline.client.policy import Policy
from crestline.client.submit import submit
from crestline.client.watched import JobEvent
from crestline.model import (
    File,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobSpec,
    WaitTimeoutError,
)


class System:
    """A system's jobs and files; made by `crestline.connect` and used in an `async with`.

    All connections of one event loop to the same system with the same identity share one set of sockets, one token and
    one job monitor, so opening another one costs nothing.
    """

    def __init__(self, site: Site, system: str | None, policy: Policy) -> None:
        self._site = site
        self._asked = system
        self._policy = policy
        self._key: Any = None
        self._backend: Backend | None = None

    async def __aenter__(self) -> Self:
        if self._backend is None:
            authorizer = self._site.authorizer()
            trust = self._site.trust()
            url, asked = self._site.url.rstrip("/"), self._asked
            key = (
                url,
                (asked or "").casefold(),
                authorizer.identity,
                self._site.account,
                self._site.verify,
                self._site.ca_file,
                self._policy,
            )

            def make() -> Backend:
                return FirecrestBackend(
                    url, asked, authorizer, account=self._site.account, verify=trust, policy=self._policy
                )

            self._backend = await shared.acquire(key, make)
            self._key = key
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
        if self._backend is not None:
            self._backend = None
            await shared.release(self._key)

    @property
    def backend(self) -> Backend:
        """The interface below, for what this class does not offer."""
        if self._backend is None:
            raise RuntimeError("The connection is not open; use it in an `async with`.")
        return self._backend

    @property
    def monitor(self) -> JobMonitor:
        """The watcher behind `watch` and `wait`; `monitor.snapshot(id)` is for those who are asked themselves."""
        return self.backend.monitor

    @property
    def name(self) -> str:
        """The system's name."""
        return self.backend.system

    @property
    def gateway_url(self) -> str:
        """The gateway's base URL."""
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
        return await submit(self.backend, spec, key, self._policy.submit)

    async def job(self, job_id: str) -> Job:
        """A job as the scheduler reports it now; an array as one job.

        Raises:
            JobNotFoundError: there is none, or not yet: a fresh job may be invisible for some seconds.
        """
        job = chosen(await self.backend.job(job_id), job_id)
        if job is None:
            raise JobNotFoundError(f"There is no job {job_id}.", hint="Check the job id; old jobs are forgotten.")
        return job

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
        return await self.backend.jobs(
            JobFilter(
                ids=tuple(ids) if ids is not None else None,
                name=name,
                account=account,
                all_users=all_users,
                window=window,
            )
        )

    def watch(self, job: Job | str) -> AsyncGenerator[JobEvent, None]:
        """The job's state and every change of it, until it has ended.

        Raises:
            JobNotFoundError: the scheduler does not know it, confirmed over a minute.
        """
        return self.monitor.watch(job)

    async def wait(self, job: Job | str, *, timeout: float | None = None, check: bool = False) -> Job:
        """The job once it has ended, however it ended.

        Args:
            timeout: seconds.
            check: raise for a job that did not complete.

        Raises:
            WaitTimeoutError: the job goes on.
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
            raise JobFailedError(_verdict(last), last, hint="Look at its output, and at its reason.")
        return last

    async def cancel(self, job: Job | str) -> None:
        """End a job; one that has ended is no error.

        Raises:
            JobNotFoundError: there is no such job.
        """
        await self.backend.cancel(job if isinstance(job, str) else job.job_id)

    async def metadata(self, job: Job | str) -> Job:
        """The job with its `script`, `stdin`, `stdout` and `stderr`; of an array those of its first element.

        For a job given by its id nothing else is set.

        Raises:
            JobNotFoundError: there is no such job, or not yet.
        """
        found = (await self.backend.metadata(job if isinstance(job, str) else job.job_id))[0]
        if isinstance(job, str):
            return found
        return msgspec.structs.replace(
            job, script=found.script, stdin=found.stdin, stdout=found.stdout, stderr=found.stderr
        )

    def follow(self, log: Job | str, *, job: Job | str | None = None, position: str | None = None) -> Follower:
        """The text of a log while it is written, to its end when the job has ended.

        Args:
            log: its path, or a job that `metadata` has told where its `stdout` goes.
            job: who writes it; None for a path that is followed without an end.
            position: where an earlier follower stood (`follower.position`); None: the beginning.

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

        return follow(self.backend, log, finished=finished, position=position)

    # the system

    async def describe(self) -> dict[str, Any]:
        """The system's entry in the gateway's `/status/systems`: scheduler, file systems, health, limits."""
        return await self.backend.describe()

    async def default_workdir(self) -> str:
        """The user's directory on the system's default file system."""
        return await self.backend.default_workdir()

    # names in the file system

    async def ls(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        """The entries of a directory, or a file itself."""
        return await self.backend.list(path, hidden=hidden, recursive=recursive)

    async def stat(self, path: str) -> dict[str, int]:
        """The numbers of stat(2), links followed."""
        return await self.backend.stat(path)

    async def checksum(self, path: str) -> str:
        """Hexadecimal SHA-256."""
        return await self.backend.checksum(path)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; with `parents` also those above it, and none of them need be new."""
        await self.backend.mkdir(path, parents=parents)

    async def remove(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it."""
        await self.backend.remove(path)

    async def symlink(self, target: str, link: str) -> None:
        """Make `link` point to `target`."""
        await self.backend.symlink(target, link)

    async def chmod(self, path: str, mode: str) -> None:
        """Set permissions, in octal digits (`"644"`)."""
        await self.backend.chmod(path, mode)

    async def copy(self, source: str, target: str) -> None:
        """Copy within the system; on plain FirecREST a job of the scheduler."""
        await self.backend.copy(source, target)

    async def move(self, source: str, target: str) -> None:
        """Rename or move within the system; on plain FirecREST a job of the scheduler."""
        await self.backend.move(source, target)

    # content

    async def upload(self, local: str | os.PathLike[str], remote: str, *, progress: Progress | None = None) -> Report:
        """Send a file or a directory; see `crestline.client.files.upload`."""
        return await files.upload(self.backend, local, remote, progress=progress)

    async def download(self, remote: str, local: str | os.PathLike[str], *, progress: Progress | None = None) -> Report:
        """Fetch a file or a directory; see `crestline.client.files.download`."""
        return await files.download(self.backend, remote, local, progress=progress)

    async def read_bytes(self, path: str) -> bytes:
        """A whole file, of any size that memory holds."""
        if (await self.backend.stat(path))["size"] <= self.backend.max_direct_download:
            return await self.backend.download_small(path)
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await self.download(path, copy)
            return await asyncio.to_thread(copy.read_bytes)

    async def read_text(self, path: str) -> str:
        """A whole text file; bytes that are no UTF-8 are replaced."""
        return (await self.read_bytes(path)).decode(errors="replace")

    async def write_bytes(self, path: str, content: bytes) -> None:
        """Write a whole file; what was there is replaced."""
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await asyncio.to_thread(copy.write_bytes, content)
            await self.upload(copy, path)

    async def write_text(self, path: str, text: str) -> None:
        """Write a whole text file in UTF-8; what was there is replaced."""
        await self.write_bytes(path, text.encode())


def _verdict(job: Job) -> str:
    text = f"Job {job.job_id} ended as {job.state}"
    if job.exit_code:
        text += f" with exit code {job.exit_code}"
    if job.reason:
        text += f" ({job.reason})"
    return text + "."
