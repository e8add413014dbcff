"""Invariants that several subjects have in common; each is told of what happens, and ends the run when it breaks."""

from __future__ import annotations

from collections import deque

from crestline.model import Job, JobState
from crestline.testing.simulation.cluster import SimulatedCluster
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World


class TruthfulEnds:
    """A job that is told to have ended has ended, in this way, and stays so."""

    def __init__(self, world: World, cluster: SimulatedCluster) -> None:
        self._world = world
        self._cluster = cluster
        self._told: dict[str, JobState] = {}

    def check(self, who: str, job: Job, key: str | None = None) -> None:
        """Check a job in a final state, as a program was told of it.

        Args:
            key: of the submission that it was told for; its work must be this job's.
        """
        world, told = self._world, f"{who} was told that job {job.job_id} is {job.state.value}"
        elements = self._cluster.find(job.job_id)
        world.check(bool(elements), f"{told}, which was never accepted.")
        running = [each.number for each in elements if not each.is_over]
        world.check(not running, f"{told}, while {running} go on.")
        good = all(each.has_completed for each in elements)
        world.check(job.state.is_success == good, f"{told}, but it {'completed' if good else 'failed'}.")
        before = self._told.setdefault(job.job_id, job.state)
        world.check(before is job.state, f"{told}, and before that it was {before.value}.")
        if key is not None:
            worked = self._cluster.worked(key)
            world.check(worked == job.job_id, f"{told} for {key}, but the work is done by job {worked}.")


class Bounds:
    """What a program waits for ends in time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, what: str, process: Process, since: float, bound: float) -> None:
        """Check that no more than `bound` seconds have gone since then, unless the process has been killed."""
        took = self._world.now - since
        self._world.check(
            not process.is_alive or took < bound,
            f"{what} of {process.name} took {took:.0f} s, its bound is {bound:.0f} s.",
        )


class RequestRate:
    """A program asks no more than so often in a minute, whatever the facility answers."""

    def __init__(self, world: World, who: str, most: int) -> None:
        self._world = world
        self._who = who
        self._most = most
        self._times: deque[float] = deque()

    def count(self) -> None:
        """Note a request that leaves now."""
        self._times.append(self._world.now)
        while self._times[0] < self._world.now - 60.0:
            self._times.popleft()
        self._world.check(
            len(self._times) <= self._most, f"{self._who} sends more than {self._most} requests in a minute."
        )
