"""The subject `submission`: processes that submit jobs with keys, die, come back, and wait for the ends of the jobs."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import crestline.client
from crestline.client.backends.messages import NotSentError
from crestline.client.config import Site
from crestline.client.system import System
from crestline.model import (
    AuthenticationError,
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobNotFoundError,
    JobSpec,
    RateLimitedError,
    SubmitOutcomeUnknownError,
)
from crestline.testing.simulation.cluster import SimulatedCluster, work
from crestline.testing.simulation.firecrest import EPOCH, HOME, SimulatedFirecrest
from crestline.testing.simulation.login import SimulatedLogin
from crestline.testing.simulation.network import OUTAGES, Network
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World

PASSING = (GatewayUnavailableError, RateLimitedError, AuthenticationError)
"""Errors after which a program repeats its call with the same key."""
SUBMIT_BOUND = 420.0
"""Seconds that one call of `submit` takes at most: its budget of 180 s, and what was under way at its end."""
CALM_BOUND = 420.0
"""Seconds after the last fault in which each submission succeeds."""
END_BOUND = 120.0
"""Seconds after a job's end, the last fault and the beginning of the wait in which the end is known."""


class Submission:
    """One scenario.

    Args:
        world: where it happens.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        random = world.adversary.random("scenario")
        self._cluster = SimulatedCluster(world)
        life = random.choice((90.0, 300.0, 3600.0))
        self._firecrest = SimulatedFirecrest(world, self._cluster, has_filters=random.random() < 0.5, token_life=life)
        self._probability = random.choice((0.03, 0.15, 0.4))
        self._keys = [f"key-{number}" for number in range(random.choice((1, 1, 2, 4)))]
        self._arrays = {key: random.choice((0, 0, 0, 2, 3)) for key in self._keys}
        self._calm_at = random.choice((20.0, 60.0, 240.0))
        self._answered: dict[tuple[str, str], tuple[str, bool]] = {}
        self._random = random

    async def run(self) -> None:
        """Run the scenario to its end."""
        world, adversary = self._world, self._world.adversary
        for number in range(2):
            name = f"outage {number}"
            if fault := adversary.strikes(name, 0.3, "outage", "facility"):
                kind = fault.choice(OUTAGES)
                begin, length = fault.uniform(0, self._calm_at), fault.choice((3, 15, 60)) * fault.uniform(0.5, 1.5)
                world.plan_outage(begin, min(length, self._calm_at - begin), kind)
                world.note("facility", f"{name} is planned: {kind} from {begin:.1f} s for {length:.1f} s")
        if fault := adversary.strikes("key rotation", 0.2, "key rotation", "issuer"):
            world.loop.call_later(fault.uniform(0, self._calm_at), self._firecrest.revoke_all)
        world.loop.call_later(self._calm_at, self._calm)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._program("p1", 0.0))
            if self._random.random() < 0.35:
                group.create_task(self._program("p2", self._random.choice((0.0, 3.0, 30.0)) * self._random.random()))
        self._check_end()

    def _calm(self) -> None:
        self._world.adversary.is_calm = True
        self._world.note("facility", "is without faults from now on")

    async def _program(self, name: str, delay: float) -> None:
        """A program that is started again after each kill."""
        adversary = self._world.adversary
        await asyncio.sleep(delay)
        for life in range(1, 5):
            kill = adversary.strikes(f"{name}.{life} killed", 0.3 if life < 4 else 0.0, "kill", "process")
            kill_at = int(10 ** kill.uniform(0.5, 3.2)) if kill else None
            skew = adversary.strikes(f"{name}.{life} clock", 0.1, "clock skew", "process")
            epoch = EPOCH - 1000.0 + (skew.choice((-1200.0, -90.0, 90.0, 1200.0)) if skew else 0.0)
            process = Process(f"{name}.{life}", kill_at=kill_at, epoch=epoch)
            if await process.run(self._client(process, is_first=life == 1 and name == "p1")):
                self._world.check(
                    not process.unfinished, f"{process.name} left tasks running: {', '.join(process.unfinished)}."
                )
                return
            self._world.note(process.name, "is killed")
            await asyncio.sleep(adversary.random(f"{name}.{life} restart").uniform(0.1, 40))

    async def _client(self, process: Process, *, is_first: bool) -> None:
        random = self._world.adversary.random(process.name)
        network = Network(self._world, process, self._firecrest.answer, self._probability)
        login = SimulatedLogin(self._firecrest)
        site = Site(name="facility", url="https://facility.example", token="simulated", verify=False)  # noqa: S106
        many = random.random() < 0.4
        while True:
            try:
                system = crestline.client.connect(site, system="cluster", authorizer=login, transport=network)
                async with system:
                    if many:
                        jobs = await self._submit_many(system, process, network, random)
                    else:
                        jobs = await asyncio.gather(
                            *(self._submit(system, process, network, key, random) for key in self._keys)
                        )
                    await asyncio.gather(
                        *(self._wait(system, process, key, job) for key, job in zip(self._keys, jobs, strict=True))
                    )
                return
            except PASSING as error:
                self._world.note(process.name, f"cannot connect: {error.message}")
                await asyncio.sleep(random.uniform(1, 20))

    def _spec(self, key: str) -> JobSpec:
        count = self._arrays[key]
        array = f"0-{count - 1}" if count else None
        return JobSpec(script=f"#!/bin/sh\n{work(key)}\n", name="work", workdir=HOME, array=array)

    async def _submit(self, system: System, process: Process, network: Network, key: str, random: Random) -> Job:
        while True:
            began = self._world.now
            try:
                outcome: Job | CrestlineError = await system.submit(self._spec(key), key=key)
            except CrestlineError as error:
                outcome = error
            self._check_duration("submit", process, began)
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

    def _check_duration(self, what: str, process: Process, began: float) -> None:
        bound = SUBMIT_BOUND
        self._world.check(
            not process.is_alive or self._world.now - began < bound,
            f"{what} of {process.name} took {self._world.now - began:.0f} s, its bound is {bound:.0f} s.",
        )

    def _submitted(self, process: Process, network: Network, key: str, outcome: Job | CrestlineError) -> Job | None:
        """Note and check what a submission came to."""
        world = self._world
        if isinstance(outcome, CrestlineError):
            world.note(process.name, f"submission of {key}: {type(outcome).__name__}: {outcome}")
            world.check(isinstance(outcome, PASSING), f"A good job was refused: {type(outcome).__name__}: {outcome}")
            is_open = any(work(key).encode() in body for body in network.open_submissions)
            if isinstance(outcome, SubmitOutcomeUnknownError):
                world.check(is_open, f"{process.name} was told that the outcome for {key} is open, and it is not.")
            if isinstance(outcome, NotSentError):
                mine = [job.number for job in self._cluster.jobs if job.key == key and process.name in job.by]
                world.check(not mine, f"{process.name} was told that nothing was submitted for {key}: {mine}.")
            late = world.now - self._calm_at - CALM_BOUND
            world.check(late < 0, f"{key} is not submitted {CALM_BOUND:.0f} s after the last fault.")
            return None
        world.note(process.name, f"submission of {key}: job {outcome.job_id} is {outcome.state.value}")
        accepted = self._cluster.of_key(key)
        world.check(
            outcome.job_id in accepted, f"{process.name} was told job {outcome.job_id} for {key}: {list(accepted)}."
        )
        return outcome

    async def _wait(self, system: System, process: Process, key: str, job: Job) -> None:
        """Wait for the job's end twice, the second time knowing its id alone."""
        began = self._world.now
        last = await self._watch(system, process, key, job)
        again = await self._watch(system, process, key, last.job_id)
        self._world.check(
            again.state is last.state, f"Job {last.job_id} was {last.state.value}, and then {again.state.value}."
        )
        over = max(each.moments[-1].time for each in self._cluster.find(last.job_id))
        bound = max(over, self._calm_at, began) + END_BOUND
        self._world.check(
            self._world.now < bound,
            f"{process.name} knew the end of job {last.job_id} {self._world.now - bound + END_BOUND:.0f} s late.",
        )

    async def _watch(self, system: System, process: Process, key: str, job: Job | str) -> Job:
        world = self._world
        try:
            async with contextlib.aclosing(system.watch(job)) as events:
                async for event in events:
                    world.note(process.name, f"job {event.job.job_id} of {key} is {event.state.value} {event.reason}")
                    if event.state.is_terminal:
                        self._check_told(process, key, event.job)
                    last = event.job
        except JobNotFoundError as error:
            world.check(False, f"{process.name} lost job {job if isinstance(job, str) else job.job_id}: {error}")
            raise
        return last

    def _check_told(self, process: Process, key: str, job: Job) -> None:
        """What is told as ended did end, in this way, and is the job that does the work."""
        world, told = self._world, f"{process.name} was told that job {job.job_id} of {key} is {job.state.value}"
        elements = self._cluster.of_key(key).get(job.job_id, [])
        world.check(bool(elements), f"{told}, which was never accepted.")
        running = [each.number for each in elements if not each.is_over]
        world.check(not running, f"{told}, while {running} go on.")
        good = all(each.has_completed for each in elements)
        world.check(job.state.is_success == good, f"{told}, but it {'completed' if good else 'failed'}.")
        worked = self._cluster.worked(key)
        world.check(worked == job.job_id, f"{told}, but the work is done by job {worked}.")

    def _check_end(self) -> None:
        for key in self._keys:
            worked = self._cluster.worked(key)
            self._world.check(worked is not None, f"The work of {key} was never done.")
