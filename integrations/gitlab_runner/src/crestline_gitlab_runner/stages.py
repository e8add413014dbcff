"""`run`: one stage of the runner's, on its own machine or in the allocation."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.model import CrestlineError, Job
from crestline_gitlab_runner import host, images, log, results, shipping, verdict
from crestline_gitlab_runner.agent import await_file
from crestline_gitlab_runner.allocation import Allocation
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, RunnerGoneError, SystemFailureError
from crestline_gitlab_runner.mailbox import Ended
from crestline_gitlab_runner.settings import Settings
from crestline_gitlab_runner.state import State

if TYPE_CHECKING:
    from crestline.client import System

Connect = Callable[[], AbstractAsyncContextManager["System"]]

_SOURCES = frozenset({"get_sources", "clear_worktree"})
_FETCHES = frozenset({"restore_cache", "download_artifacts"})
_COLLECTS = ("archive_cache", "upload_artifacts")
_STOP_WITHIN = 15.0


class Stages:
    """The stages of one CI job."""

    def __init__(self, settings: Settings, job: CiJob, state: State, connect: Connect) -> None:
        self._settings = settings
        self._job = job
        self._state = state
        self._connect = connect

    async def run(self, stage: str, script: Path) -> None:
        """Run a stage to its end; a name that nobody knows is the user's code.

        Raises:
            BuildFailureError, SystemFailureError: how it ended, unless well.
        """
        in_job = self._settings.stages.get_sources == "job"
        if stage == "prepare_script":
            self._introduce()
        elif stage in _SOURCES and not in_job:
            host.check(self._job)
            _own(await self._on_host(script, "sources"))
        elif stage in _FETCHES:
            host.project_folder(self._state, "fetched", self._job).mkdir(parents=True, exist_ok=True)
            helper = host.genuine_helper(self._settings, self._state)
            _own(await self._on_host(script, "fetched", helper=helper))
        elif stage.startswith(_COLLECTS):
            await self._collect(stage, script)
        elif stage == "cleanup_file_variables":
            _own(await self._on_host(script, "results", quiet=True))
        else:
            async with self._connect() as system:
                await self._run_in_job(system, stage, script)

    def _introduce(self) -> None:
        record = self._state.record
        log.remark(f"Running on {self._settings.gateway.system} as job {record.job_id}, in {record.workspace}.")

    async def _on_host(self, script: Path, room: str, *, helper: Path | None = None, quiet: bool = False) -> int:
        """Run a script on this machine; where that takes longer, the agent hears from us meanwhile."""
        work = asyncio.ensure_future(host.run(self._state, script, room, helper=helper, quiet=quiet))
        try:
            await asyncio.wait((work,), timeout=min(20.0, self._settings.heartbeat_ttl / 4))
            if not work.done() and not self._state.record.over:
                async with self._connect() as system:
                    beating = asyncio.ensure_future(Allocation(system, self._settings, self._state).beat_on())
                    await asyncio.wait((work, beating), return_when=asyncio.FIRST_COMPLETED)
                    if beating.done():
                        await beating
                    beating.cancel()
            return await work
        finally:
            work.cancel()
            await asyncio.wait((work,))

    # in the allocation

    async def _run_in_job(self, system: System, stage: str, script: Path) -> None:
        record = self._state.record
        if record.over:
            raise BuildFailureError(f"Job {record.job_id} has ended: {stage} cannot run in it.")
        allocation = Allocation(system, self._settings, self._state)
        content = script.read_bytes()
        name = self._next(stage)
        path = f"{record.workspace}/in/{name}.script"
        attached: dict[str, bytes] = {}
        lines: list[str] = []
        started = record.commands > 1
        if not record.shipped:
            attached, lines = await asyncio.to_thread(shipping.pack, self._state, allocation.mailbox.part_size)
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
        self._state.record.shipped = True
        self._state.save()
        if isinstance(ended, Job):
            self._fail()
            verdict.of_job(ended)
        elif ended.code != 0:
            self._fail()
            verdict.of_command(ended.code)

    def _scripts(self, attached: dict[str, bytes], name: str, content: bytes, part_size: int) -> list[str]:
        """Attach a script, in parts if need be; returns the lines that put it together."""
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
        """Have it run; when this process is told to end, so is the command."""

        async def send() -> None:
            await allocation.mailbox.order(name, lines, attached, last=last)

        try:
            ended = await allocation.run(name, send, started=started)
            if isinstance(ended, Job):
                self._state.record.over = True
                self._state.save()
            return ended
        except ExceptionGroup as group:
            if group.subgroup((RunnerGoneError, BrokenPipeError)) is not None:
                await (allocation.leave() if self._state.record.shared else allocation.cancel())
            raise
        except asyncio.CancelledError:
            self._fail()
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
        """Whether something of a script that failed still needs the nodes."""
        return self._job.has_after_script or self._job.collects(failed=True)

    def _is_last(self, stage: str) -> bool:
        """Whether nothing can follow for which the nodes would be needed, however this ends."""
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

    # results

    async def _collect(self, stage: str, script: Path) -> None:
        """Bring what the stage wants here, and let the runner's helper upload it."""
        helper = host.genuine_helper(self._settings, self._state)
        project = host.project_folder(self._state, "results", self._job)
        project.mkdir(parents=True, exist_ok=True)
        recorder, calls = host.recording_helper(self._state)
        _own(await self._on_host(script, "results", helper=recorder, quiet=True))
        asked = results.wanted(host.read_calls(calls), project)
        if asked.patterns or asked.untracked:
            await self._fetch(asked, project, last=stage.startswith("upload_artifacts"))
        if asked.untracked and not (project / ".git").exists():
            await host.make_repository(self._state, project)
        _own(await self._on_host(script, "results", helper=helper))

    async def _fetch(self, asked: results.Wanted, project: Path, *, last: bool) -> None:
        below = host.project_path(self._state, self._job)
        remote = f"{self._state.builds_dir}/{below}"
        name = self._next("pack")
        workspace = self._state.record.workspace
        async with self._connect() as system:
            if self._state.record.over:
                await self._fetch_without_agent(system, asked, remote, project)
                return
            allocation = Allocation(system, self._settings, self._state)
            part = f"{workspace}/out/{name}.part."
            tracked = f"{workspace}/in/{name}.tracked"
            size = allocation.mailbox.part_size
            script = results.pack_script(remote, asked, part, size, tracked=tracked)
            attached = {f"{name}.script": script}
            if asked.untracked:
                files = shipping.shipped_files(self._state.room("sources") / below)
                attached[f"{name}.tracked"] = b"".join(each + b"\0" for each in files)
            lines = [await_file(f"in/{each}", len(content)) for each, content in attached.items()]
            lines.append(f"exec {self._settings.stages.shell} in/{name}.script")
            last = last and not self._state.record.shared
            ended = await self._ordered(allocation, name, lines, attached, last=last, started=True)
            if isinstance(ended, Job):
                await self._fetch_without_agent(system, asked, remote, project)
                return
            if ended.code != 0:
                raise SystemFailureError(f"The job could not pack its results (exit code {ended.code}).")
            archive = self._state.folder / "results.tgz"
            with archive.open("wb") as file:
                for path in await allocation.mailbox.parts(name):
                    file.write(await system.backend.download_small(path))
            await asyncio.to_thread(results.unpack, archive, project)
            archive.unlink()

    async def _fetch_without_agent(self, system: System, asked: results.Wanted, remote: str, project: Path) -> None:
        """The job is over: fetch what matches file by file."""
        log.remark("The job has ended; its results are fetched from the file system.")
        for path in results.literal_paths(asked, remote):
            try:
                await system.stat(f"{remote}/{path}")
            except CrestlineError as error:
                log.remark(f"{path}: {error.message}")
                continue
            target = project / path
            target.parent.mkdir(parents=True, exist_ok=True)
            await system.download(posixpath.normpath(f"{remote}/{path}"), target)
        await asyncio.to_thread(results.defuse, project)


def _own(code: int) -> None:
    """The verdict on a script of the runner's own.

    Raises:
        BuildFailureError: it failed; its code means nothing to the user.
    """
    if code != 0:
        raise BuildFailureError(f"The stage ended with exit code {code}.")
