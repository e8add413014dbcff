"""A run on a system, from the upload of its files to the exit code of its job."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.ci_engine import announce, conclude, count_tests
from crestline.cli.errors import exit_code
from crestline.cli.outcome import job_exit_code
from crestline.cli.progress import progress_bar
from crestline.cli.run_keys import (
    RunNote,
    check_same_request,
    digest_request,
    find_job,
    keyed_workdir,
    read_note,
    write_note,
)
from crestline.cli.run_reporter import RunReporter
from crestline.model import CrestlineError, Job, JobSpec

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.client.files import IgnoreRules


@dataclass(frozen=True)
class RunFiles:
    """The files of a run, uploaded before it and downloaded after it."""

    upload: list[Path]
    exclude: list[str]
    include: list[str]
    collect: list[str]
    junit: list[str]
    """Patterns of test reports, which are downloaded too."""
    output_dir: Path
    """Directory on this machine for downloaded files."""

    @property
    def results(self) -> list[str]:
        """Patterns of all files to download, relative to the working directory."""
        return [*self.collect, *self.junit]

    @property
    def names(self) -> list[str]:
        """Patterns of the names that the downloaded files have in `output_dir`."""
        return [Path(each).name for each in self.results]

    def sources(self) -> list[tuple[Path, IgnoreRules]]:
        """Return the paths to upload, each with the rules for files to exclude."""
        from crestline.client.files import IgnoreRules

        return [(each, IgnoreRules(each, exclude=self.exclude, include=self.include)) for each in self.upload]


class RemoteRun:
    """A run of one job.

    Args:
        spec: the job. Without a working directory, the run chooses one.
        key: the name of the run. None starts a new run.
        attach: resume the run of `key` and never start one.
        detach: return once the job is submitted.
    """

    def __init__(
        self, spec: JobSpec, files: RunFiles, key: str | None, tell: RunReporter, *, attach: bool, detach: bool
    ) -> None:
        self._spec = spec
        self._files = files
        self._key = key
        self._tell = tell
        self._attach = attach
        self._detach = detach

    async def execute(self, system: System) -> int:
        """Find or submit the job, follow it until it ends, and return the exit code."""
        tell, files = self._tell, self._files
        workdir = await self._workdir(system)
        spec = msgspec.structs.replace(self._spec, workdir=workdir)
        uploads = files.sources()
        request = ""
        if self._key and not self._attach:
            request = await asyncio.to_thread(digest_request, spec, uploads, files.output_dir, files.names)
        job = await self._find(system, self._key, workdir, request) if self._key else None
        if job is not None:
            tell.attached(job, workdir)
        else:
            await system.mkdir(workdir, parents=True)
            if self._key:
                await write_note(system, workdir, RunNote(request=request))
            await self._upload(system, uploads, workdir)
            job = await self._submit(system, spec, request)
            tell.submitted(job, workdir)
        announce(job, system.name)
        if self._detach:
            return 0
        job = await self._follow(system, job)
        code = await self._download(system, workdir, job)
        reports = [path for each in files.junit for path in sorted(files.output_dir.glob(Path(each).name))]
        conclude(job, code, count_tests(reports) if files.junit else None)
        tell.ended(job, code)
        return code

    async def _workdir(self, system: System) -> str:
        if self._spec.workdir:
            return await system.resolve_path(self._spec.workdir)
        if self._key:
            return await keyed_workdir(system, self._key)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        return await system.resolve_path(f"crestline-runs/{name}")

    async def _find(self, system: System, key: str, workdir: str, request: str) -> Job | None:
        """Return the job that an earlier command submitted, or None if it must be submitted."""
        note = await read_note(system, workdir)
        if note is not None and not self._attach:
            check_same_request(key, note, request)
        job_id = note.job_id if note is not None else None
        if self._attach and job_id is None:
            job_id = await find_job(system, key, workdir)
        return None if job_id is None else await system.job(job_id)

    async def _upload(self, system: System, sources: list[tuple[Path, IgnoreRules]], workdir: str) -> None:
        for source, ignore in sources:
            target = f"{workdir}/"
            if source.is_dir():
                target = f"{workdir}/{source.resolve().name}" if source.name else workdir
            with progress_bar() as progress:
                report = await system.upload(source, target, progress=progress, ignore=ignore)
            self._tell.uploaded(source, report)

    async def _submit(self, system: System, spec: JobSpec, request: str) -> Job:
        """Submit the job. If interrupted, wait for its id, then cancel it."""
        key = f"run/{self._key}" if self._key else None
        submission = asyncio.ensure_future(system.submit(spec, key=key))
        try:
            job = await asyncio.shield(submission)
            if key:
                await write_note(system, spec.workdir, RunNote(request=request, job_id=job.job_id))
            return job
        except asyncio.CancelledError:
            await _surely(_cancel_submitted(system, submission))
            raise

    async def _follow(self, system: System, job: Job) -> Job:
        """Follow the job's output, and return the job in its terminal state."""
        from crestline.cli.follow import follow_job

        try:
            return await follow_job(system, job, self._tell)
        except asyncio.CancelledError:
            await _surely(system.cancel(job))
            self._tell.cancelled(job)
            raise

    async def _download(self, system: System, workdir: str, job: Job) -> int:
        """Download the results. Returns the job's exit code, or if it is 0 that of the first failed download."""
        code = job_exit_code(job)
        for each in self._files.results:
            pattern = f"{workdir}/{each}"
            try:
                with progress_bar() as progress:
                    report = await system.download(pattern, f"{self._files.output_dir}{os.sep}", progress=progress)
            except CrestlineError as error:
                self._tell.not_collected(pattern, error)
                code = code or exit_code(error)
            else:
                self._tell.collected(pattern, report)
        return code


async def _cancel_submitted(system: System, submission: asyncio.Future[Job]) -> None:
    await system.cancel(await submission)


async def _surely(work: Awaitable[None]) -> None:
    """Await `work` to its end, despite further cancellation: CI services send SIGINT, and soon after it SIGTERM."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    await task
