"""The subject `following`: a program that follows the output of a running job, and is killed and restarted."""

from __future__ import annotations

import asyncio
import contextlib

from crestline.client.system import System
from crestline.model import Job, JobState
from crestline.testing.simulation.answers import HOME
from crestline.testing.simulation.cluster import SimulatedJob, work
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.scenario import PASSING, Scenario
from crestline.testing.simulation.world import World

END_BOUND = 180.0
"""Maximum seconds from the job's end, the last fault and the program's start until all output has arrived."""
PIECES = ("one line\n", "two\nlines\n", "half a ", "é", "\n", "\n\n", "  \t", "without end")


class Following(Scenario):
    """A program that follows a job's output, as text or as lines of both streams, and resumes after each kill."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._paths = {stream: f"{HOME}/{stream}" for stream in ("stdout", "stderr")}
        self._is_text = self.random.random() < 0.5
        self._heard = dict.fromkeys(self._paths, "")
        self._position: str | None = None
        self._job_id = ""
        self._writers: list[asyncio.Task[None]] = []
        self.cluster.on_start = lambda job: self._writers.append(world.start(self._write(job)))

    async def play(self) -> None:
        self._job_id = self.cluster.submit(f"#!/bin/sh\n{work('key')}\n", HOME, "key", "another program")
        await self.program("p1", self._client, self.random.choice((0.0, 60.0)) * self.random.random())

    async def _write(self, job: SimulatedJob) -> None:
        """Write the job's output in chunks of irregular size and timing."""
        files, random = self.cluster.files, self.world.adversary.random(f"output {len(job.moments)}")
        streams = [stream for stream in self._paths if random.random() < 0.8]
        for stream in self._paths:
            files.write(self._paths[stream], self._written(stream).encode())
        while streams and job.at(self.world.now).state == "RUNNING":
            stream = random.choice(streams)
            files.write(self._paths[stream], (self._written(stream) + random.choice(PIECES)).encode())
            await asyncio.sleep(random.choice((0.01, 1, 10)) * random.random())

    def _written(self, stream: str) -> str:
        node = self.cluster.files.nodes.get(self._paths[stream])
        return node.content.decode() if node else ""

    async def _client(self, process: Process) -> None:
        began = self.world.now
        async with self.connect(process) as system:
            while True:
                try:
                    await (self._follow_text(system, process) if self._is_text else self._follow_lines(system, process))
                    break
                except PASSING as error:
                    self.world.note(process.name, f"follow: {type(error).__name__}: {error}")
                await asyncio.sleep(5)
        (job,) = self.cluster.find(self._job_id)
        self.world.check(job.is_over, f"{process.name} was told the end of the output of a job that goes on.")
        self.bounds.check("to follow the output", process, max(job.moments[-1].time, self.calm_at, began), END_BOUND)
        for stream in ("stdout",) if self._is_text else self._paths:
            written, heard = self._written(stream), self._heard[stream]
            if not self._is_text and written and not written.endswith("\n"):
                written += "\n"
            self.world.check(heard == written, f"{stream} is {written!r}, and {process.name} has {heard!r}.")

    async def _follow_text(self, system: System, process: Process) -> None:
        job = Job(job_id=self._job_id, state=JobState.SUBMITTED, stdout=self._paths["stdout"])
        async with contextlib.aclosing(system.follow(job, position=self._position)) as follower:
            async for text in follower:
                self._hear(process, "stdout", text)
                self._position = follower.position

    async def _follow_lines(self, system: System, process: Process) -> None:
        out, err = self._paths["stdout"], self._paths["stderr"]
        job = Job(job_id=self._job_id, state=JobState.SUBMITTED, stdout=out, stderr=err)
        async with contextlib.aclosing(system.output(job, position=self._position)) as output:
            async for line in output:
                self._hear(process, line.stream, f"{line.text}\n")
                self._position = output.position

    def _hear(self, process: Process, stream: str, text: str) -> None:
        self._heard[stream] += text
        written, heard = self._written(stream), self._heard[stream]
        is_prefix = written.startswith(heard) or (not self._is_text and f"{written}\n".startswith(heard))
        self.world.check(is_prefix, f"{process.name} has {heard[-60:]!r} of {stream}, which is {written!r}.")
