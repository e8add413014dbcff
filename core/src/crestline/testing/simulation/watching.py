"""The subject `watching`: concurrent watches, waits, snapshots and cancellations of jobs and array tasks."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from crestline.client.system import System
from crestline.model import CrestlineError, Job, JobNotFoundError, JobState
from crestline.testing.simulation.answers import HOME
from crestline.testing.simulation.cluster import work
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.scenario import PASSING, Scenario
from crestline.testing.simulation.world import World

END_BOUND = 120.0
"""Maximum seconds from a job's end, the last fault and the start of a wait until the end is reported."""
GONE_BOUND = 150.0
"""Maximum seconds from the last fault and the start of a wait until an unknown id is reported."""
CANCEL_BOUND = 110.0
"""Maximum seconds of a `cancel` call: three requests with a total timeout of 45 s, one of them without retries."""


class Watching(Scenario):
    """One or two programs that watch the same jobs, which others have submitted."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        random = self.random
        self._arrays = [random.choice((0, 0, 0, 1, 2, 4)) for _ in range(random.choice((1, 2, 2, 4)))]

    async def play(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.program("p1", self._client))
            if self.random.random() < 0.3:
                group.create_task(self.program("p2", self._client, self.random.uniform(0, 20)))

    async def _client(self, process: Process) -> None:
        random = self.world.adversary.random(process.name)
        async with self.connect(process) as system, asyncio.TaskGroup() as group:
            for number, count in enumerate(self._arrays):
                group.create_task(self._use(system, process, random, number, count))
            if random.random() < 0.2:
                group.create_task(self._unknown(system, process))

    async def _use(self, system: System, process: Process, random: Random, number: int, count: int) -> None:
        """Watch one job once or twice, perhaps after an interrupted watch, or poll snapshots of it."""
        key = f"work-{number}"
        await asyncio.sleep(random.choice((0.0, 0.0, 5.0, 60.0)) * random.random())
        found = self.cluster.of_key(key)
        if found:
            (job_id,) = found
        else:
            array = f"#SBATCH --array=0-{count - 1}\n" if count else ""
            job_id = self.cluster.submit(f"#!/bin/sh\n{array}{work(key)}\n", HOME, key, "another program")
        watched: Job | str = job_id
        if random.random() < 0.5:
            watched = Job(job_id=job_id, state=JobState.SUBMITTED, system="cluster")
        if random.random() < 0.3:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.choice((1, 10, 60)) * random.random()):
                    await self._watch(system, process, job_id)
        cancelling = None
        if random.random() < 0.2:
            cancelling = asyncio.create_task(self._cancel(system, process, job_id, random.choice((0, 5, 60))))
        ways = [self._watch(system, process, watched)]
        if count and random.random() < 0.4:
            ways.append(self._watch(system, process, f"{job_id}_{random.randrange(count)}"))
        if random.random() < 0.3:
            ways.append(self._look(system, process, watched, random.uniform(0.5, 20)))
        await asyncio.gather(*ways)
        if cancelling is not None:
            await cancelling

    async def _watch(self, system: System, process: Process, job: Job | str) -> None:
        world, began = self.world, self.world.now
        job_id, state = job if isinstance(job, str) else job.job_id, "nothing"
        try:
            async with contextlib.aclosing(system.watch(job)) as events:
                async for event in events:
                    world.transition("state as watched", state, state := event.state.value)
                    world.note(process.name, f"job {event.job.job_id} is {event.state.value} {event.reason}")
                    last = event
        except JobNotFoundError as error:
            world.check(False, f"{process.name} lost job {job_id}: {error}")
            raise
        world.check(
            last.state.is_terminal, f"{process.name} was left by the watch of job {job_id}: {last.state.value}."
        )
        self._check_reported(process, last.job, began)

    async def _look(self, system: System, process: Process, job: Job | str, interval: float) -> None:
        """Poll snapshots of a job, like ReFrame and the hub."""
        began = self.world.now
        while not (found := system.monitor.snapshot(job)).is_finished:  # noqa: ASYNC110 - a user of snapshots polls
            await asyncio.sleep(interval)
        self._check_reported(process, found, began, interval)

    def _check_reported(self, process: Process, job: Job, began: float, more: float = 0.0) -> None:
        self.ends.check(process.name, job)
        over = max((each.moments[-1].time for each in self.cluster.find(job.job_id)), default=0.0)
        since = max(over, self.calm_at, began)
        self.bounds.check(f"to know the end of job {job.job_id}", process, since, END_BOUND + more)

    async def _cancel(self, system: System, process: Process, job_id: str, delay: float) -> None:
        """Cancel a job, retrying until it succeeds. Checks that the job has ended after a successful call."""
        await asyncio.sleep(delay)
        while True:
            began = self.world.now
            try:
                await system.cancel(job_id)
            except CrestlineError as error:
                self.world.note(process.name, f"cancel of {job_id}: {type(error).__name__}: {error}")
                self.world.check(isinstance(error, (*PASSING, JobNotFoundError)), f"cancel of {job_id} failed: {error}")
                # Slurm's accounting may not list a job for some seconds.
                is_fresh = self.cluster.find(job_id)[0].submitted > self.world.now - 60.0
                self.world.check(
                    not isinstance(error, JobNotFoundError) or is_fresh,
                    f"{process.name} cannot cancel {job_id}: {error}",
                )
            else:
                left = [each.number for each in self.cluster.find(job_id) if not each.is_over]
                self.world.check(not left, f"{process.name} has cancelled {job_id}, while {left} go on.")
                return
            self.bounds.check(f"cancel of {job_id}", process, began, CANCEL_BOUND)
            await asyncio.sleep(5)

    async def _unknown(self, system: System, process: Process) -> None:
        """Check that an id that the scheduler does not know is reported as unknown in time."""
        began, job_id = self.world.now, "99999"
        try:
            await system.wait(job_id)
        except JobNotFoundError:
            self.bounds.check("to miss an unknown job", process, max(began, self.calm_at), GONE_BOUND)
        else:
            self.world.check(False, f"{process.name} was told of the end of a job that never was.")
