"""Invariants shared by several subjects. Each is notified of events, and ends the run when it is violated."""

from __future__ import annotations

from collections import deque

from crestline.model import Job, JobState
from crestline.testing.simulation.cluster import SimulatedCluster
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World


class TruthfulEnds:
    """A job reported as finished has finished in this state, and stays in it."""

    def __init__(self, world: World, cluster: SimulatedCluster) -> None:
        self._world = world
        self._cluster = cluster
        self._told: dict[str, JobState] = {}

    def check(self, who: str, job: Job, key: str | None = None) -> None:
        """Check a job in a terminal state, as reported to a program.

        Args:
            key: the key of the submission that the job was reported for. This job must have done its work.
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
    """The client's calls finish in time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, what: str, process: Process, since: float, bound: float) -> None:
        """Check that at most `bound` seconds have passed since `since`, unless the process has been killed."""
        took = self._world.now - since
        self._world.check(
            not process.is_alive or took < bound,
            f"{what} of {process.name} took {took:.0f} s, its bound is {bound:.0f} s.",
        )


class RequestRate:
    """The number of requests per minute of a program is bounded, regardless of the facility's responses."""

    def __init__(self, world: World, who: str, most: int) -> None:
        self._world = world
        self._who = who
        self._most = most
        self._times: deque[float] = deque()

    def count(self) -> None:
        """Record a request that is sent now."""
        self._times.append(self._world.now)
        while self._times[0] < self._world.now - 60.0:
            self._times.popleft()
        self._world.check(
            len(self._times) <= self._most, f"{self._who} sends more than {self._most} requests in a minute."
        )
