"""The simulations of one user on one system: submitted once, watched, and found again after a restart."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from crestline.client import System
from crestline.model import CrestlineError, Job, JobSpec, JobState

PROGRAM = Path(__file__).with_name("simulation.py")
FOLDER = "science_page"
_NAME = re.compile(r"wave-([0-9a-f]{8})")
log = logging.getLogger(__name__)


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the form asks for."""

    cells: Annotated[int, Meta(ge=32, le=256)] = 96
    steps: Annotated[int, Meta(ge=1, le=100_000)] = 300
    wavelength: Annotated[float, Meta(ge=4, le=32)] = 8
    slits: Annotated[int, Meta(ge=1, le=5)] = 2


class Simulation(msgspec.Struct):
    """A row of the job list."""

    run: str
    job_id: str
    state: JobState
    folder: str
    started: int | None = None
    elapsed: int | None = None
    nodes: str = ""
    reason: str = ""


class Simulations:
    """All of them, and a way to hear of changes.

    Args:
        system: an open connection; everything is done as its user.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._found: dict[str, Simulation] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.folder = ""
        """on the system; each simulation has a directory in it"""

    async def start(self) -> None:
        """Make the folder, and take up the simulations that were submitted before."""
        self.folder = posixpath.join(await self._system.default_workdir(), FOLDER)
        await self._system.mkdir(self.folder, parents=True)
        for job in await self._system.jobs():
            if (named := _NAME.match(job.name)) is not None:
                self._take(named[1], job)

    async def stop(self) -> None:
        """Stop watching; the jobs go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(self, parameters: Parameters) -> Simulation:
        """Send the program and submit a job that runs it."""
        run = secrets.token_hex(4)
        folder = posixpath.join(self.folder, run)
        await self._system.mkdir(folder)
        await self._system.upload(PROGRAM, posixpath.join(folder, PROGRAM.name))
        options = " ".join(f"--{name} {value}" for name, value in msgspec.to_builtins(parameters).items())
        spec = JobSpec(
            script=f"#!/bin/bash\npython3 {PROGRAM.name} {options}\n",
            name=f"wave-{run}",
            workdir=folder,
            stdout="output.txt",
            stderr="output.txt",
            time_limit="00:30:00",
        )
        job = await self._system.submit(spec, key=f"science-page/{run}")
        found = self._take(run, job)
        await self._tell()
        return found

    async def cancel(self, run: str) -> None:
        """End a job."""
        await self._system.cancel(self._found[run].job_id)

    async def lists(self) -> AsyncGenerator[list[Simulation]]:
        """The simulations, newest first; anew whenever one has changed."""
        while True:
            yield sorted(self._found.values(), key=lambda each: (len(each.job_id), each.job_id), reverse=True)
            async with self._changed:
                await self._changed.wait()

    async def output(self, run: str) -> AsyncGenerator[str]:
        """What a simulation prints, while it does."""
        found = self._found[run]
        async with aclosing(self._system.follow(f"{found.folder}/output.txt", job=found.job_id)) as texts:
            async for text in texts:
                yield text

    def __contains__(self, run: str) -> bool:
        return run in self._found

    def _take(self, run: str, job: Job) -> Simulation:
        found = Simulation(run, job.job_id, job.state, posixpath.join(self.folder, run))
        self._found[run] = found
        task = asyncio.create_task(self._watch(found, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return found

    async def _watch(self, found: Simulation, job: Job) -> None:
        try:
            async with aclosing(self._system.watch(job)) as events:
                async for event in events:
                    times = event.job.times
                    found.state, found.reason, found.nodes = event.state, event.reason, event.job.nodes
                    found.started, found.elapsed = times.start, times.elapsed
                    await self._tell()
        except CrestlineError as error:
            log.warning("job %s: %s", found.job_id, error)
            found.state, found.reason = JobState.UNKNOWN, str(error)
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
