"""The subject `submission`: processes that submit jobs with keys, are killed and restarted, and wait for the jobs."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from crestline.client.backends.messages import NotSentError
from crestline.client.system import System
from crestline.model import CrestlineError, Job, JobNotFoundError, JobSpec, SubmitOutcomeUnknownError
from crestline.testing.simulation.answers import HOME
from crestline.testing.simulation.cluster import work
from crestline.testing.simulation.network import Network
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.scenario import PASSING, Scenario
from crestline.testing.simulation.world import World

SUBMIT_BOUND = 420.0
"""Maximum seconds of a `submit` call: its total timeout of 180 s, and the operations in progress at that time."""
CALM_BOUND = 420.0
"""Maximum seconds after the last fault until each submission succeeds."""
END_BOUND = 120.0
"""Maximum seconds from a job's end, the last fault and the start of the wait until the end is reported."""
VISIBLE_AFTER = 30.0
"""Seconds after a submission during which a list may omit its job and the names of others."""
LISTS = 6
"""Number of consecutive complete lists that suffice for one look-up."""


class Submission(Scenario):
    """One or two programs that submit the same jobs."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        random = self.random
        self._keys = [f"key-{number}" for number in range(random.choice((1, 1, 2, 4)))]
        self._arrays = {key: random.choice((0, 0, 0, 2, 3)) for key in self._keys}

    async def play(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.program("p1", self._client))
            if self.random.random() < 0.35:
                delay = self.random.choice((0.0, 3.0, 30.0)) * self.random.random()
                group.create_task(self.program("p2", self._client, delay))

    async def _client(self, process: Process) -> None:
        random = self.world.adversary.random(process.name)
        network = self.network(process)
        async with self.connect(process, network) as system:
            if random.random() < 0.4:
                jobs = await self._submit_many(system, process, network, random)
            else:
                jobs = await asyncio.gather(
                    *(self._submit(system, process, network, key, random) for key in self._keys)
                )
            await asyncio.gather(
                *(self._wait(system, process, key, job) for key, job in zip(self._keys, jobs, strict=True))
            )

    def _spec(self, key: str) -> JobSpec:
        count = self._arrays[key]
        array = f"0-{count - 1}" if count else None
        return JobSpec(script=f"#!/bin/sh\n{work(key)}\n", name="work", workdir=HOME, array=array)

    async def _submit(self, system: System, process: Process, network: Network, key: str, random: Random) -> Job:
        while True:
            began = self.world.now
            try:
                outcome: Job | CrestlineError = await system.submit(self._spec(key), key=key)
            except CrestlineError as error:
                outcome = error
            self.bounds.check("submit", process, began, SUBMIT_BOUND)
            if (job := self._submitted(process, network, key, outcome)) is not None:
                return job
            await asyncio.sleep(random.uniform(1, 20))

    async def _submit_many(self, system: System, process: Process, network: Network, random: Random) -> list[Job]:
        done: dict[str, Job] = {}
        while missing := [key for key in self._keys if key not in done]:
            outcomes = await system.submit_many([self._spec(key) for key in missing], missing)
            for key, outcome in zip(missing, outcomes, strict=True):
                if (job := self._submitted(process, network, key, outcome)) is not None:
                    done[key] = job
            if len(done) < len(self._keys):
                await asyncio.sleep(random.uniform(1, 20))
        return [done[key] for key in self._keys]

    def _submitted(self, process: Process, network: Network, key: str, outcome: Job | CrestlineError) -> Job | None:
        """Record and check the outcome of a submission."""
        world = self.world
        if isinstance(outcome, CrestlineError):
            world.note(process.name, f"submission of {key}: {type(outcome).__name__}: {outcome}")
            world.check(isinstance(outcome, PASSING), f"A good job was refused: {type(outcome).__name__}: {outcome}")
            if isinstance(outcome, SubmitOutcomeUnknownError):
                self._check_open(process, network, key)
            if isinstance(outcome, NotSentError):
                mine = [job.number for job in self.cluster.jobs if job.key == key and process.name in job.by]
                world.check(not mine, f"{process.name} was told that nothing was submitted for {key}: {mine}.")
            late = world.now - self.calm_at - CALM_BOUND
            world.check(late < 0, f"{key} is not submitted {CALM_BOUND:.0f} s after the last fault.")
            return None
        world.note(process.name, f"submission of {key}: job {outcome.job_id} is {outcome.state.value}")
        accepted = self.cluster.of_key(key)
        world.check(
            outcome.job_id in accepted, f"{process.name} was told job {outcome.job_id} for {key}: {list(accepted)}."
        )
        return outcome

    async def _wait(self, system: System, process: Process, key: str, job: Job) -> None:
        """Wait for the job's end twice, the second time only by its id."""
        began = self.world.now
        last = await self._watch(system, process, key, job)
        again = await self._watch(system, process, key, last.job_id)
        self.world.check(
            again.state is last.state, f"Job {last.job_id} was {last.state.value}, and then {again.state.value}."
        )
        over = max(each.moments[-1].time for each in self.cluster.find(last.job_id))
        bound = max(over, self.calm_at, began) + END_BOUND
        self.world.check(
            self.world.now < bound,
            f"{process.name} knew the end of job {last.job_id} {self.world.now - bound + END_BOUND:.0f} s late.",
        )

    async def _watch(self, system: System, process: Process, key: str, job: Job | str) -> Job:
        world, state = self.world, "nothing"
        try:
            async with contextlib.aclosing(system.watch(job)) as events:
                async for event in events:
                    world.transition("state as watched", state, state := event.state.value)
                    world.note(process.name, f"job {event.job.job_id} of {key} is {event.state.value} {event.reason}")
                    if event.state.is_terminal:
                        self.ends.check(process.name, event.job, key)
                    last = event.job
        except JobNotFoundError as error:
            world.check(False, f"{process.name} lost job {job if isinstance(job, str) else job.job_id}: {error}")
            raise
        return last

    def _check_open(self, process: Process, network: Network, key: str) -> None:
        """Check that an outcome reported as unknown is unknown: no list that the client received contains the job."""
        times = [time for time, body in network.open_submissions if work(key).encode() in body]
        told = f"{process.name} was told that the outcome for {key} is open"
        self.world.check(bool(times), f"{told}, and it is not.")
        row = longest = 0
        for time, is_whole in network.lists:
            row = row + 1 if is_whole and time > times[-1] + VISIBLE_AFTER else 0
            longest = max(longest, row)
        self.world.check(longest < LISTS, f"{told}, after {longest} whole lists in a row.")

    def check_end(self) -> None:
        for key in self._keys:
            worked = self.cluster.worked(key)
            self.world.check(worked is not None, f"The work of {key} was never done.")
