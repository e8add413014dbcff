"""The subject `simulation.reframing:Reframing`: a suite of ReFrame that is interrupted, killed and started again.

What ReFrame does is a model: it hands jobs over, looks at them, cancels at Ctrl-C, and ends. `Run` is the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from crestline.client import BundleFilter, System
from crestline.client.network import use_network
from crestline.model import JobState, NotFoundError
from crestline.testing.simulation import Process, Scenario, World
from crestline.testing.simulation.answers import HOME, SYSTEM
from crestline.testing.simulation.cluster import SimulatedJob
from crestline.testing.simulation.login import SimulatedLogin
from crestline.testing.simulation.scenario import SITE
from crestline_reframe.options import Options
from crestline_reframe.runs import Run
from crestline_reframe.tracked_job import TrackedJob

OUTPUT = "rfm.out"
END_BOUND = 400.0
"""Seconds after the last fault and the start of a session in which all its tests have ended."""
LAST_WORDS = 2.5
FAREWELL = {True: 10.0, False: 60.0}
"""Seconds for the clean-up, where it is interrupted and where it is not, as `sessions.py` has them."""


class _Options(Options):
    """Those of the simulated site."""

    def target(self) -> Any:
        return SITE, SYSTEM, None

    def base(self) -> str:
        return f"{HOME}/reframe"


class Reframing(Scenario):
    """Sessions of one suite, one after the other, until one has come to its end undisturbed."""

    lives = 5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._names = [f"Test{number}" for number in range(self.random.choice((1, 2, 3)))]
        self._interrupts = [self.random.random() < 0.5 for _ in range(self.lives - 1)]
        self._root = Path("/nowhere")
        self._run: Run | None = None
        self.cluster.on_start = self._write_output

    async def play(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="crestline-simulation-"))
        try:
            for _ in self._interrupts:
                await self.program(f"session-{len(self.world.lines)}", self._session)
                if not any(self._interrupts):
                    break
        finally:
            shutil.rmtree(self._root)

    def _write_output(self, job: SimulatedJob) -> None:
        if job.workdir in self.cluster.files.nodes:
            self.cluster.files.write(f"{job.workdir}/{OUTPUT}", str(job.number).encode())

    def _purge(self, process: Process) -> None:
        """The site removes what lies in scratch directories, now and then."""
        stages = [path for path in self.cluster.files.nodes if path.endswith("/stage")]
        if stages and self.world.adversary.strikes(f"purge before {process.name}", 0.2, "purge", "scratch"):
            self.world.note("facility", f"purges {', '.join(stages)}")
            for path in stages:
                self.cluster.files.remove(path)

    async def _session(self, process: Process) -> None:
        if self._run is not None:
            self._run._journal._file.close()  # as the end of a process does
        self._purge(process)
        is_interrupted = bool(self._interrupts) and self._interrupts.pop(0)
        random = self.world.adversary.random(process.name)
        stop_at = self.world.now + random.choice((1, 10, 60)) * random.random()
        began = self.world.now
        with self._injected(process):
            self._run = run = Run(
                _Options(system=SYSTEM), self._root, self._root / "stage", loop=asyncio.get_running_loop()
            )
            batch = [self._tracked_job(run, name) for name in self._names]
            for tracked in batch:
                run.add(tracked)
            while not _all(tracked.ended for tracked in batch):
                await asyncio.sleep(0.5)  # as ReFrame polls
                if is_interrupted and self.world.now >= stop_at:
                    break
                self.bounds.check("the suite", process, max(began, self.calm_at), END_BOUND)
            is_interrupted = not _all(tracked.ended for tracked in batch)
            if is_interrupted:
                self.world.note(process.name, "is interrupted")
                run.cancel_all()
                end = self.world.now + LAST_WORDS
                while self.world.now < end and not _all(tracked.released for tracked in batch):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            else:
                for tracked in batch:
                    self._check(process, tracked)
            await run.finish(FAREWELL[is_interrupted])
            self.world.note(process.name, "has ended")
            others = set(process._tasks) - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.sleep(2.0)

    def _tracked_job(self, run: Run, name: str) -> TrackedJob:
        local = self._root / "stage" / "system" / "partition" / "environment" / name
        local.mkdir(parents=True, exist_ok=True)
        (local / "input.txt").write_text(name)
        script = f"#!/bin/sh\n: {name}\n"
        (local / "rfm.sh").write_text(script)
        (local / OUTPUT).unlink(missing_ok=True)
        return TrackedJob(
            stage_dir=run.stage_dirs.resolve(local),
            phase="run",
            test=name,
            script=script,
            own_files=frozenset({"rfm.sh", OUTPUT}),
            outputs=(OUTPUT,),
        )

    def _check(self, process: Process, tracked: TrackedJob) -> None:
        """What ReFrame tells of a test is what became of a job that was its own, and was not cancelled by a run."""
        world, told = self.world, f"{process.name} was told that {tracked.test}"
        world.note(
            process.name,
            f"{tracked.test}: job {tracked.job and tracked.job.job_id} {tracked.job and tracked.job.state.value}",
        )
        world.check(not tracked.error, f"{told} failed: {tracked.error}")
        assert tracked.job is not None
        world.check(tracked.job.state is not JobState.CANCELLED, f"{told} was cancelled.")
        self.ends.check(process.name, tracked.job)
        output = tracked.stage_dir.local / OUTPUT
        number = output.read_text() if output.exists() else "nothing"
        world.check(
            number == tracked.job.job_id, f"{told} is job {tracked.job.job_id}, and has the output of {number}."
        )

    @contextlib.contextmanager
    def _injected(self, process: Process) -> Iterator[None]:
        """The run's connection by the simulated network; its results by one request, where real ones take a job."""

        async def download(
            system: System, remote: str, selections: Sequence[BundleFilter], **_: Any
        ) -> dict[str, list[str]]:
            await system.ls(remote)
            found: dict[str, list[str]] = {}
            for each in selections:
                if f"{remote}/{each.directory}" not in self.cluster.files.nodes:
                    raise NotFoundError(f"There is no {remote}/{each.directory}.")
                node = self.cluster.files.nodes.get(f"{remote}/{each.directory}/{OUTPUT}")
                found[each.directory] = [OUTPUT] if node else []
                if node:
                    (each.target / OUTPUT).write_bytes(node.content)
            return found

        with (
            use_network(self.network(process), SimulatedLogin(self.firecrest)),
            mock.patch.object(System, "download_bundle", download),
        ):
            yield


def _all(events: Iterable[threading.Event]) -> bool:
    return all(event.is_set() for event in events)
