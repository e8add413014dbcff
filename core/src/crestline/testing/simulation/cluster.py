"""A simulated Slurm cluster: the actual states of jobs, which an API may report late or distorted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from crestline.testing.simulation.answers import HOME
from crestline.testing.simulation.files import SimulatedFiles
from crestline.testing.simulation.world import World

_WORK = re.compile(r"^simulated-work (\S+)$", re.MULTILINE)
_LOCK = re.compile(r"^crestline_lock=(.+)$", re.MULTILINE)
_ARRAY = re.compile(r"^#SBATCH --array=(\d+)-(\d+)$", re.MULTILINE)
_DUPLICATE = 113
_NO_OUTPUT = 53
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED by 0", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"})


def work(key: str) -> str:
    """Return the command that represents the work of the submission `key` in a simulated script."""
    return f"simulated-work {key}"


@dataclass
class Moment:
    """The state of a job from a given time."""

    time: float
    state: str
    exit_code: int = 0
    signal: int = 0


@dataclass
class SimulatedJob:
    """A job, or a task of an array.

    Attributes:
        hidden: seconds after the submission during which no response contains the job.
        nameless: seconds after the submission during which the accounting only knows the job's number.
        lag: seconds after the start during which the accounting has a nameless row for the job.
        stale: seconds after the start during which the job still appears as pending.
        by: the request that submitted the job.
    """

    number: int
    key: str
    name: str
    script: str
    workdir: str
    by: str
    submitted: float
    array_id: int | None = None
    index: int | None = None
    moments: list[Moment] = field(default_factory=list)
    hidden: float = 0.0
    nameless: float = 0.0
    lag: float = 0.0
    stale: float = 0.0

    @property
    def whole(self) -> str:
        """The id that the submission returned."""
        return str(self.array_id or self.number)

    @property
    def is_over(self) -> bool:
        return self.moments[-1].state in ENDED

    @property
    def has_completed(self) -> bool:
        return self.moments[-1].state == "COMPLETED"

    def at(self, time: float) -> Moment:
        """Return the state at that time."""
        return next((each for each in reversed(self.moments) if each.time <= time), self.moments[0])

    def start(self, time: float) -> float | None:
        """Return the start of the current run, as known at that time."""
        moment = self.at(time)
        if moment.state == "PENDING":
            return None
        return max((each.time for each in self.moments if each.state == "RUNNING" and each.time <= time), default=None)

    def end(self, time: float) -> float | None:
        """Return the end of the job, as known at that time."""
        moment = self.at(time)
        return moment.time if moment.state in ENDED else None


class SimulatedCluster:
    """Jobs and files.

    Attributes:
        jobs: all accepted jobs.
        files: the files of the system.
        length: returns the seconds that a job runs, unless it is ended earlier.
        on_start: called with each job that starts its work.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: list[SimulatedJob] = []
        self.files = SimulatedFiles(world, HOME)
        self.length: Callable[[Random], float] = lambda random: random.choice((0.2, 3.0, 20.0, 60.0))
        self.on_start: Callable[[SimulatedJob], None] = lambda job: None
        self._worked: dict[str, str] = {}
        self._endings: dict[str, Callable[[], None]] = {}
        self._next = 100

    def submit(self, script: str, workdir: str, name: str, by: str) -> str:
        """Accept a job and return its id."""
        first = self._next
        fault = self._world.adversary.strikes(f"job {first} hidden", 0.3, "hidden", "job")
        hidden = fault.uniform(0.1, 6) if fault else 0.0
        bounds = _ARRAY.search(script)
        indexes = list(range(int(bounds[1]), int(bounds[2]) + 1)) if bounds else [None]
        self._next += len(indexes)
        match = _WORK.search(script)
        key = match[1] if match else name
        # Slurm splits an array as its tasks start: the last one keeps the number of the array.
        for number, index in zip((*range(first + 1, self._next), first), indexes, strict=True):
            self._accept(
                SimulatedJob(
                    number=number,
                    key=key,
                    name=name,
                    script=script,
                    workdir=workdir,
                    by=by,
                    submitted=self._world.now,
                    hidden=hidden,
                    array_id=first if bounds else None,
                    index=index,
                    moments=[Moment(self._world.now, "PENDING")],
                )
            )
        self._world.note("cluster", f"accepts job {first}{f' of {len(indexes)} elements' if bounds else ''} for {key}")
        return str(first)

    def run(self, name: str, work: Callable[[], None]) -> str:
        """Accept a job of the system, which calls `work` when it completes. Returns its id."""
        job_id = self.submit("#!/bin/sh\n", HOME, f"{name}-{self._next}", "FirecREST")
        self._endings[job_id] = work
        return job_id

    def find(self, job_id: str) -> list[SimulatedJob]:
        """Return the jobs for an id: none, one job, one array task, or all tasks of an array."""
        return [job for job in self.jobs if job_id in (job.whole, str(job.number), f"{job.whole}_{job.index}")]

    def of_key(self, key: str) -> dict[str, list[SimulatedJob]]:
        """Return the jobs that were accepted for a submission, by id."""
        found: dict[str, list[SimulatedJob]] = {}
        for job in self.jobs:
            if job.key == key:
                found.setdefault(job.whole, []).append(job)
        return found

    def worked(self, key: str) -> str | None:
        """Return the id of the job that did the work of a submission, or None."""
        return self._worked.get(key)

    def cancel(self, job: SimulatedJob) -> None:
        """Cancel a job."""
        if not job.is_over:
            self._become(job, "CANCELLED by 0", signal=15)

    def end(self, job: SimulatedJob, state: str, exit_code: int = 1) -> None:
        """End a job in a given state."""
        self._finish(job, 0, state, exit_code, 0)

    def _accept(self, job: SimulatedJob) -> None:
        self.jobs.append(job)
        adversary, one = self._world.adversary, f"job {job.number}"
        if fault := adversary.strikes(f"{one} nameless", 0.3, "nameless", "job"):
            job.nameless = fault.uniform(0.1, 8)
        if fault := adversary.strikes(f"{one} accounting lag", 0.4, "accounting lag", "job"):
            job.lag = fault.uniform(0.5, 8)
        if fault := adversary.strikes(f"{one} stale", 0.2, "stale state", "job"):
            job.stale = fault.uniform(0.3, 4)
        random = adversary.random(one)
        wait = random.choice((0.3, 2.0, 10.0, 40.0)) * random.uniform(0.5, 1.5)
        self._world.loop.call_later(wait, self._start, job, 0)

    def _start(self, job: SimulatedJob, try_number: int) -> None:
        if job.is_over:
            return
        self._become(job, "RUNNING")
        later = self._world.loop.call_later
        if job.workdir not in self.files.nodes:  # as in Slurm, a script does not run if its output cannot be written
            later(0.1, self._finish, job, try_number, "FAILED", 0, _NO_OUTPUT)
            return
        if not self._acquires_lock(job):
            later(0.1, self._finish, job, try_number, "FAILED", _DUPLICATE, 0)
            return
        before = self._worked.setdefault(job.key, job.whole)
        self._world.check(
            before == job.whole, f"The work of {job.key} runs twice: in job {before} and in job {job.whole}."
        )
        random = self._world.adversary.random(f"job {job.number} run {try_number}")
        length = self.length(random) * random.uniform(0.5, 1.5)
        end = random.choices(
            (("COMPLETED", 0, 0), ("FAILED", 1, 0), ("FAILED", 7, 0), ("TIMEOUT", 0, 15), ("OUT_OF_MEMORY", 0, 9)),
            (70, 10, 5, 5, 5),
        )[0]
        self.on_start(job)
        name = f"job {job.number} run {try_number}"
        if fault := self._world.adversary.strikes(f"{name} requeued", 0.1, "requeue", "job"):
            later(length * fault.random(), self._requeue, job, try_number, fault.uniform(0.5, 30))
        elif fault := self._world.adversary.strikes(f"{name} node fails", 0.05, "node failure", "job"):
            later(length * fault.random(), self._finish, job, try_number, "NODE_FAIL", 1, 0)
        elif fault := self._world.adversary.strikes(f"{name} preempted", 0.05, "preemption", "job"):
            later(length * fault.random(), self._finish, job, try_number, "PREEMPTED", 0, 15)
        else:
            later(length, self._finish, job, try_number, *end)

    def _acquires_lock(self, job: SimulatedJob) -> bool:
        """Whether the job acquires the lock in the lines that `crestline.client.submit_guard` adds to a script."""
        lock = _LOCK.search(job.script)
        if lock is None:
            return True
        return self.files.link(job.whole, shlex.split(lock[1])[0]) == job.whole

    def _finish(self, job: SimulatedJob, try_number: int, state: str, exit_code: int, signal: int) -> None:
        if not job.is_over:
            if state == "COMPLETED" and (work := self._endings.get(job.whole)) is not None:
                work()
            self._become(job, state, exit_code, signal)

    def _requeue(self, job: SimulatedJob, try_number: int, wait: float) -> None:
        if not job.is_over:
            self._become(job, "PENDING")
            self._world.loop.call_later(wait, self._start, job, try_number + 1)

    def _become(self, job: SimulatedJob, state: str, exit_code: int = 0, signal: int = 0) -> None:
        self._world.transition("state of a job", job.moments[-1].state, state)
        job.moments.append(Moment(self._world.now, state, exit_code, signal))
        shown = f"{job.whole}_{job.index}" if job.index is not None else str(job.number)
        code = f", exit code {exit_code}" if exit_code else ""
        self._world.note("cluster", f"job {shown} is {state}{code}")
