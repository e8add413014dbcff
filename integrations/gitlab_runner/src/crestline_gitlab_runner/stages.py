"""`run`: one stage of the runner, on its own machine or in the allocation.

The runner's scripts run only in the allocation. The stages of this machine are read from the job's payload and from the
text of their scripts, and carried out without a shell.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crestline.model import CrestlineError, Job
from crestline_gitlab_runner import images, log, results, runner_script, sources, stage_in, verdict
from crestline_gitlab_runner.agent import await_file
from crestline_gitlab_runner.allocation import Allocation
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.command_channel import Ended
from crestline_gitlab_runner.exchange import Exchange
from crestline_gitlab_runner.failures import BuildFailureError, RunnerGoneError, SystemFailureError
from crestline_gitlab_runner.identity import Connect
from crestline_gitlab_runner.patterns import is_too_long
from crestline_gitlab_runner.runner_process import runs
from crestline_gitlab_runner.settings import Settings
from crestline_gitlab_runner.state import State

if TYPE_CHECKING:
    from crestline.client import System


_SOURCES = frozenset({"get_sources", "clear_worktree"})
_COLLECTS = ("archive_cache", "upload_artifacts")
_STOP_WITHIN = 15.0
_LONGEST_PROJECT = 1024
"""Maximum bytes of the project's directory below the builds directory."""


class Stages:
    """The stages of one CI job."""

    def __init__(self, settings: Settings, job: CiJob, state: State, connect: Connect) -> None:
        self._settings = settings
        self._job = job
        self._state = state
        self._connect = connect
        self._abandoned = False

    async def run(self, stage: str, script: Path, runner: int) -> None:
        """Run a stage to its end. An unknown name is the user's code.

        Args:
            stage: name of the stage.
            script: the runner's script.
            runner: the pid of this process's parent. When it has ended, or the runner that `config` recorded, the job
                ends.

        Raises:
            BuildFailureError, SystemFailureError: the stage failed.
        """
        work = asyncio.ensure_future(self._run(stage, script))
        gone = asyncio.ensure_future(self._end_of_runner(runner))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            # The work may fail at that moment because its output has no reader. The job is cancelled in any case.
            if self._has_ended(runner):
                self._abandoned = True
                work.cancel()
                await asyncio.wait((work,))
                await self._abandon()
                raise RunnerGoneError("The runner is gone.")
            await work
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait((work, gone))

    def _has_ended(self, runner: int) -> bool:
        noted = self._state.record.runner
        return os.getppid() != runner or bool(noted and not runs(noted))

    async def _end_of_runner(self, runner: int) -> None:
        while True:
            if self._has_ended(runner):
                return
            await asyncio.sleep(0.5)

    async def _abandon(self) -> None:
        """End this job's commands and jobs on the system."""
        async with self._connect() as system:
            allocation = Allocation(system, self._settings, self._state)
            await (allocation.detach() if self._state.record.shared else allocation.cancel())

    async def _run(self, stage: str, script: Path) -> None:
        content = await asyncio.to_thread(script.read_bytes)
        if stage == "prepare_script":
            self._introduce()
        elif stage in _SOURCES and self._settings.stages.get_sources == "host":
            if stage == "get_sources":
                await self._on_host(
                    sources.fetch(
                        self._settings, self._state, self._job, self._below, runner_script.repository_url(content)
                    )
                )
        elif stage == "restore_cache":
            await self._on_host(self._exchange.restore_caches(runner_script.helper_calls(content)))
        elif stage == "download_artifacts":
            await self._on_host(self._exchange.download_artifacts(runner_script.helper_calls(content)))
        elif stage.startswith(_COLLECTS):
            await self._collect(stage, runner_script.helper_calls(content))
        elif stage == "cleanup_file_variables":
            pass  # they are in the workspace, which is removed as a whole
        else:
            async with self._connect() as system:
                await self._run_in_job(system, stage, content)

    @property
    def _below(self) -> str:
        """The project's directory, below the builds directory."""
        return project_path(self._state, self._job)

    @property
    def _project(self) -> str:
        """The project's directory on the system."""
        return f"{self._state.builds_dir}/{self._below}"

    @property
    def _exchange(self) -> Exchange:
        return Exchange(self._settings, self._job, self._state, self._project)

    def _introduce(self) -> None:
        record = self._state.record
        log.remark(f"Running on {self._settings.gateway.system} as job {record.job_id}, in {record.workspace}.")

    async def _on_host(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run work on this machine, with heartbeats to the agent if it takes long."""
        work = asyncio.ensure_future(coroutine)
        try:
            await asyncio.wait((work,), timeout=min(20.0, self._settings.heartbeat_ttl / 4))
            if not work.done() and not self._state.record.over:
                async with self._connect() as system:
                    beating = asyncio.ensure_future(Allocation(system, self._settings, self._state).beat_on())
                    await asyncio.wait((work, beating), return_when=asyncio.FIRST_COMPLETED)
                    if beating.done():
                        await beating
                    beating.cancel()
            await work
        finally:
            work.cancel()
            await asyncio.wait((work,))

    # In the allocation

    async def _run_in_job(self, system: System, stage: str, content: bytes) -> None:
        record = self._state.record
        if record.over:
            raise BuildFailureError(f"Job {record.job_id} has ended: {stage} cannot run in it.")
        allocation = Allocation(system, self._settings, self._state)
        name = self._next(stage)
        path = f"{record.workspace}/in/{name}.script"
        started = record.commands > 1
        part_size = allocation.mailbox.part_size
        attached, lines = await asyncio.to_thread(stage_in.pack, self._state, name, self._below, part_size)
        lines += self._scripts(attached, name, content, allocation.mailbox.part_size)
        rank = self._job.variables.get("CRESTLINE_LAUNCH") or self._settings.stages.launch
        if rank not in ("once", "per-rank"):
            raise BuildFailureError(f"CRESTLINE_LAUNCH: {rank!r} is neither once nor per-rank.")
        launch = images.launch(
            self._settings.images,
            self._job.image,
            record.workspace,
            self._settings.stages.shell,
            path,
            per_rank=rank == "per-rank" and stage != "after_script",
        )
        lines += ["umask 022", *launch]
        ended = await self._ordered(allocation, name, lines, attached, last=self._is_last(stage), started=started)
        stage_in.arrived(self._state)
        if isinstance(ended, Job):
            self._fail()
            verdict.of_job(ended)
        elif ended.code != 0:
            self._fail()
            verdict.of_command(ended.code)

    def _scripts(self, attached: dict[str, bytes], name: str, content: bytes, part_size: int) -> list[str]:
        """Attach a script, in parts if necessary, and return the lines that combine them."""
        if len(content) <= part_size:
            attached[f"{name}.script"] = content
            return [await_file(f"in/{name}.script", len(content))]
        parts = [content[begin : begin + part_size] for begin in range(0, len(content), part_size)]
        names = [f"{name}.script.{number:04d}" for number in range(len(parts))]
        attached.update(zip(names, parts, strict=True))
        joined = " ".join(f"in/{each}" for each in names)
        waits = [await_file(f"in/{each}", len(part)) for each, part in zip(names, parts, strict=True)]
        return [*waits, f"cat {joined} >in/{name}.script && rm -f {joined}"]

    async def _ordered(
        self,
        allocation: Allocation,
        name: str,
        lines: list[str],
        attached: Mapping[str, bytes],
        *,
        last: bool,
        started: bool,
    ) -> Ended | Job:
        """Run the command. A signal that ends this process also ends the command."""

        async def send() -> None:
            await allocation.mailbox.send(name, lines, attached, last=last)

        try:
            ended = await allocation.run(name, send, started=started)
            if isinstance(ended, Job):
                self._state.record.over = True
                self._state.save()
            return ended
        except ExceptionGroup as group:
            if group.subgroup(BrokenPipeError) is not None:
                await (allocation.detach() if self._state.record.shared else allocation.cancel())
            raise
        except asyncio.CancelledError:
            self._fail()
            if self._abandoned:
                raise
            try:
                async with asyncio.timeout(_STOP_WITHIN):
                    if self._state.record.shared or (allocation.has_nodes and self._is_followed()):
                        await allocation.mailbox.stop(name)
                    else:
                        self._state.record.over = True
                        self._state.save()
                        await allocation.cancel()
            except (CrestlineError, TimeoutError) as error:
                log.failure(f"The job could not be told to stop: {error}")
            raise

    def _is_followed(self) -> bool:
        """Whether a later stage of a failed script still needs the nodes."""
        return self._job.has_after_script or self._job.collects(failed=True)

    def _is_last(self, stage: str) -> bool:
        """Whether no later stage can need the nodes, for any result of this one."""
        if self._state.record.shared:
            return False
        follows = stage != "after_script" and (self._job.has_after_script or self._job.more_steps)
        return not follows and not self._job.collects(failed=False) and not self._job.collects(failed=True)

    def _next(self, stage: str) -> str:
        record = self._state.record
        record.commands += 1
        self._state.save()
        safe = "".join(each if each.isalnum() and each.isascii() else "_" for each in stage)[:40]
        prefix = f"{record.name}-" if record.shared else ""
        return f"{prefix}{record.commands:03d}-{safe}"

    def _fail(self) -> None:
        self._state.record.failed = True
        self._state.save()

    # Results

    async def _collect(self, stage: str, calls: list[runner_script.HelperCall]) -> None:
        """Fetch the files that the stage requests, and pass them on."""
        bundles = [
            results.Bundle.of(call, self._job.variables, self._project)
            for call in calls
            if call.command in ("artifacts-uploader", "cache-archiver")
        ]
        bundles = [bundle for bundle in bundles if not bundle.is_empty]
        if not bundles:
            log.remark("WARNING: no files to upload.")
            return
        folder = self._state.subdir("results")
        try:
            await self._fetch(bundles, folder, last=stage.startswith("upload_artifacts"))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _fetch(self, bundles: list[results.Bundle], folder: Path, *, last: bool) -> None:
        name = self._next("pack")
        async with self._connect() as system:
            packed = False
            if not self._state.record.over:
                allocation = Allocation(system, self._settings, self._state)
                last = last and not self._state.record.shared
                packed = await self._pack(allocation, name, bundles, last=last)
            if not packed:
                log.remark("The job has ended; its results are fetched from the file system.")
            failures: list[CrestlineError] = []
            for number, bundle in enumerate(bundles):
                source = folder / str(number)
                try:
                    if not packed:
                        await self._fetch_without_agent(system, bundle, source)
                        await self._on_host(self._exchange.deliver(bundle, "folder", source))
                    elif await self._fetch_parts(system, allocation, f"{name}-{number}", source):
                        await self._on_host(self._exchange.deliver(bundle, "tar", source))
                    else:
                        log.remark("WARNING: no files to upload.")
                except (BuildFailureError, SystemFailureError) as error:
                    if bundle.is_cache:
                        log.remark(f"WARNING: the cache is not kept: {error.message}")
                    else:
                        failures.append(error)
            for further in failures[1:]:
                log.failure(further.message)
            if failures:
                raise failures[0]

    async def _pack(self, allocation: Allocation, name: str, bundles: list[results.Bundle], *, last: bool) -> bool:
        """Pack the requested files in the job. Return False if the job has ended before."""
        workspace = self._state.record.workspace
        tracked = f"{workspace}/in/{name}.tracked"
        parts = [(bundle, f"{workspace}/out/{name}-{number}.part.") for number, bundle in enumerate(bundles)]
        size = allocation.mailbox.part_size
        scratch = f"{workspace}/log/{name}.list"
        attached = {f"{name}.script": results.pack_script(self._project, parts, size, tracked=tracked, scratch=scratch)}
        if any(bundle.untracked for bundle in bundles):
            files = await asyncio.to_thread(stage_in.shipped_files, self._state.subdir("sources") / self._below)
            attached[f"{name}.tracked"] = b"".join(each + b"\0" for each in files)
        lines = [await_file(f"in/{each}", len(content)) for each, content in attached.items()]
        lines.append(f"exec {self._settings.stages.shell} in/{name}.script")
        ended = await self._ordered(allocation, name, lines, attached, last=last, started=True)
        if isinstance(ended, Job):
            return False
        if ended.code != 0:
            raise SystemFailureError(f"The job could not pack its results (exit code {ended.code}).")
        return True

    async def _fetch_parts(self, system: System, allocation: Allocation, name: str, target: Path) -> bool:
        """Fetch an archive. Return False if it does not exist."""
        parts = await allocation.mailbox.parts(name)
        self._exchange.check_size(sum(parts.values()))
        with target.open("wb") as file:
            for path in sorted(parts):
                file.write(await system.read_direct(path))
                self._exchange.check_size(file.tell())  # a job may have written to it meanwhile
        return bool(parts)

    async def _fetch_without_agent(self, system: System, bundle: results.Bundle, target: Path) -> None:
        """Fetch possible matches file by file, because the job has ended."""
        target.mkdir()
        for path in bundle.starts:
            remote = posixpath.normpath(f"{self._project}/{path}")
            try:
                self._exchange.check_size(await _size_of(system, remote))
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                await system.download(remote, place)
            except CrestlineError as error:
                log.remark(f"WARNING: {path}: {error.message}")


async def _size_of(system: System, remote: str) -> int:
    """Return the bytes of a file, or of all files in a directory."""
    return sum(entry.size for entry in await system.ls(remote, hidden=True, recursive=True) if not entry.is_directory)


def project_path(state: State, job: CiJob) -> str:
    """Return the project's directory, below the builds directory.

    Raises:
        BuildFailureError: the job has moved its project.
    """
    path = job.variables.get("CI_PROJECT_DIR", "")
    below = path.removeprefix(f"{state.builds_dir}/")
    if below == path or not below or {"", ".", ".."} & set(below.split("/")) or "\n" in below:
        raise BuildFailureError(f"CI_PROJECT_DIR {path!r} is not below {state.builds_dir}.", hint="Do not set it.")
    if is_too_long(below, _LONGEST_PROJECT):
        raise BuildFailureError("CI_PROJECT_DIR is too long for a directory.", hint="Do not set it.")
    return below
