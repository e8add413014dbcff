"""The subject `simulation.building:Building`: a CI job, while the processes of its driver are killed.

The runner is a model that calls the driver as GitLab Runner's custom executor does. The agent is a model of `agent.sh`,
whose protocol the tests of the driver hold against a real shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import crestline.client
from crestline.client import System
from crestline.model import CrestlineError
from crestline.testing.simulation import Process, Scenario, World
from crestline.testing.simulation.answers import EPOCH, SYSTEM
from crestline.testing.simulation.cluster import SimulatedJob
from crestline.testing.simulation.login import SimulatedLogin
from crestline.testing.simulation.scenario import SITE
from crestline_gitlab_runner.ci_job import CiJob, _Response, _Step
from crestline_gitlab_runner.cleanup import clean_up
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.identity import policy
from crestline_gitlab_runner.prepare import describe, load_state, prepare
from crestline_gitlab_runner.settings import Gateway, Recovery, Settings
from crestline_gitlab_runner.settings import Stages as StageSettings
from crestline_gitlab_runner.stages import Stages

END_BOUND = 800.0
"""Seconds after the last fault and the end of its work in which a stage has ended."""
_SYSTEM_ENDS = frozenset({"NODE_FAIL", "PREEMPTED"})


class Building(Scenario):
    """One CI job from `config` to `cleanup`."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        has_after = self.random.random() < 0.5
        self._stages = ["prepare_script", "step_script", *(["after_script"] if has_after else [])]
        self._codes = {stage: self.random.choice((0, 0, 0, 1, 7)) for stage in self._stages}
        steps = [_Step("script", ["work"]), *([_Step("after_script", ["work"])] if has_after else [])]
        self._response = _Response(id=1, steps=steps)
        self._executed: dict[str, int] = {}
        self._output: dict[str, bytes] = {}
        self._log = b""
        self._was_refused = False
        self._work_ended = 0.0
        self._agents: list[asyncio.Task[None]] = []
        self.cluster.length = lambda _: 3600.0
        self.cluster.on_start = lambda job: self._agents.append(world.start(self._agent(job)))

    async def play(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="crestline-simulation-", dir="/dev/shm"))
        gateway = Gateway(url=SITE.url, system=SYSTEM, verify=False)
        self._settings = Settings(
            gateway=gateway,
            stages=StageSettings(get_sources="job"),
            recovery=Recovery(state_dir=str(folder)),
            name="runner",
        )
        try:
            with mock.patch("crestline_gitlab_runner.log.write", self._write):
                await self._runner(folder)
        finally:
            shutil.rmtree(folder)
        for agent in self._agents:
            agent.cancel()

    def _write(self, content: bytes) -> None:
        self._log += content

    # the runner

    async def _runner(self, folder: Path) -> None:
        variables: dict[str, str] = {}
        job = CiJob(self._response, variables, {})
        how = await self._call("config", lambda connect: describe(self._settings, job, connect))
        if how != "done":
            return
        variables["CI_PROJECT_DIR"] = f"{load_state(self._settings, job).builds_dir}/project"
        for attempt in range(3):
            how = await self._call(f"prepare-{attempt}", lambda connect: prepare(self._settings, job, connect))
            if how in ("done", "build"):
                break
        script = folder / "script"
        for stage in self._stages:
            if how == "done" or (stage == "after_script" and how == "build"):
                script.write_text(f"work {stage}\n")

                def work(connect: Any, stage: str = stage) -> Coroutine[Any, Any, None]:
                    stages = Stages(self._settings, job, load_state(self._settings, job), connect)
                    return stages.run(stage, script, os.getppid())

                self._log = b""
                said = await self._call(stage, work)
                self._check(stage, said)
                how = said if how == "done" else how
        name = load_state(self._settings, job).record.name
        how = await self._call("cleanup", lambda connect: clean_up(self._settings, job, connect))
        left = [each for each in self.cluster.jobs if each.name.startswith(name) and not each.is_over]
        if how == "done":
            wanted = [each for each in left if each.by not in self.world.untold]
            self.world.check(not wanted, f"Jobs {[each.number for each in wanted]} are left after the clean-up.")
            paths = [path for path in self.cluster.files.nodes if f"/{name}/b-" in path or path.endswith(f"/{name}")]
            self.world.check(not paths or bool(left), f"{paths} are left after the clean-up.")
        await asyncio.sleep(self._settings.heartbeat_ttl + max(0.0, self.calm_at - self.world.now) + 120)
        left = [each.number for each in self.cluster.jobs if each.name.startswith(name) and not each.is_over]
        self.world.check(not left, f"Jobs {left} still run, and no runner is there for them.")

    async def _call(
        self, stage: str, main: Callable[[Any], Coroutine[Any, Any, Any]], epoch: float = EPOCH - 1000.0
    ) -> str:
        """Run one process of the driver; returns `done`, `build`, `system` or `killed`."""
        adversary, how = self.world.adversary, "killed"
        kill = adversary.strikes(f"{stage} killed", 0.1, "kill", "process")
        process = Process(stage, kill_at=int(10 ** kill.uniform(0.5, 3.0)) if kill else None, epoch=epoch)
        network = self.network(process)

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[System]:
            login = SimulatedLogin(self.firecrest)
            async with crestline.client.connect(
                SITE, system=SYSTEM, authorizer=login, transport=network, policy=policy(self._settings)
            ) as system:
                yield system

        async def program() -> None:
            nonlocal how
            try:
                await main(connect)
                how = "done"
            except* BuildFailureError as errors:
                how = "build"
                self.world.note(process.name, f"build failure: {errors.exceptions[0]}")
            except* CrestlineError as errors:
                how = "system"
                self._was_refused = "cannot be written" in str(errors.exceptions[0])  # three answers of 500 in a row
                self.world.note(process.name, f"system failure: {errors.exceptions[0]}")

        began = self.world.now
        if not await process.run(program()):
            how = "killed"
        self.world.note(process.name, how)
        if how != "killed":
            self.bounds.check(stage, process, max(began, self.calm_at, self._work_ended), END_BOUND)
        return how

    def _check(self, stage: str, how: str) -> None:
        """A stage is told as what became of its script and of the job."""
        if stage == "prepare_script":
            self.world.check(how in ("done", "killed"), f"{stage} ended: {how}.")
            return
        check, count = self.world.check, self._executed.get(stage, 0)
        states = {job.moments[-1].state for job in self.cluster.jobs if job.key.startswith("ci-")}
        check(count <= 1, f"The script of {stage} ran {count} times.")
        if how == "done":
            check(count == 1 and self._codes[stage] == 0, f"{stage} succeeded, and its script did not.")
            check(self._output[stage] in self._log, f"{stage} succeeded without its output.")
        if how == "build" and not self.cluster.files.spoilt:
            is_own = count == 1 and self._codes[stage] != 0
            ends = states - {"PENDING", "RUNNING", "COMPLETED"} - _SYSTEM_ENDS
            check(is_own or bool(ends), f"{stage} failed, and its script and job did not.")
        if how == "system" and not self._was_refused:
            check("RUNNING" not in states, f"{stage} was given up while its job runs.")

    # the agent

    async def _agent(self, job: SimulatedJob) -> None:
        files, random = self.cluster.files, self.world.adversary.random(f"agent of job {job.number}")
        inbox, out, run = f"{job.workdir}/in", f"{job.workdir}/out", len(job.moments)
        ended_at = self.world.now + random.uniform(0, 60) if random.random() < 0.15 else None
        if f"{inbox}/beat" not in files.nodes:
            return self.cluster.end(job, "FAILED", 91)
        if f"{job.workdir}/log" in files.nodes:
            return self.cluster.end(job, "FAILED", 94)
        for each in ("log", "out"):
            files.make_directory(f"{job.workdir}/{each}")
        seen: set[str] = set()
        while not job.is_over and len(job.moments) == run:
            await asyncio.sleep(0.5)
            if ended_at is not None and self.world.now >= ended_at:
                self._work_ended = self.world.now
                state = random.choice(("TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED"))
                return self.cluster.end(job, state)
            if inbox not in files.nodes:
                return self.cluster.end(job, "FAILED", 91)
            if self.world.now - files.nodes[f"{inbox}/beat"].modified > self._settings.heartbeat_ttl:
                return self.cluster.end(job, "FAILED", 90)
            orders = {path: node.content for path, node in files.inside(inbox).items() if path.endswith(".go")}
            for path, content in orders.items():
                name = path.removesuffix(".go")
                is_last = content.endswith(b"# end of all\n")
                if name not in seen and (is_last or content.endswith(b"# end\n")):
                    seen.add(name)
                    await self._command(job, name, inbox, out, random)
                    if is_last and not job.is_over:
                        return self.cluster.end(job, "COMPLETED", 0)

    async def _command(self, job: SimulatedJob, name: str, inbox: str, out: str, random: Any) -> None:
        """Run one command, unless its job ends meanwhile."""
        files, stage = self.cluster.files, name.partition("-")[2]
        for _ in range(6600):
            if f"{inbox}/{name}.script" in files.nodes and files.nodes[f"{inbox}/{name}.script"].content.endswith(
                b"\n"
            ):
                break
            await asyncio.sleep(0.1)
        else:
            return self._report(out, f"{name}.rc-93-0-own")
        self._executed[stage] = self._executed.get(stage, 0) + 1
        why, code, count = "own", self._codes[stage], random.choice((0, 1, 3))
        self._output[stage] = b""
        for piece in range(1, count + 1):
            await asyncio.sleep(random.choice((0.1, 5.0, 30.0)) * random.random())
            if job.is_over or inbox not in files.nodes:
                return
            if f"{inbox}/{name}.stop" in files.nodes:
                why, code, count = "stopped", 143, piece - 1
                break
            content = f"{stage} {piece}\n".encode()
            self._output[stage] += content
            files.write(f"{out}/{name}.{piece:06d}", content)
        if not job.is_over:
            self._report(out, f"{name}.rc-{code}-{count}-{why}")

    def _report(self, out: str, name: str) -> None:
        self._work_ended = self.world.now
        if out in self.cluster.files.nodes:
            self.cluster.files.write(f"{out}/{name}", b"")
