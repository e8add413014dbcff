"""A minimal in-memory Slurm that runs its jobs as processes: queue, arrays, dependencies, time limits, cancel, requeue.

It runs in its own thread, and continues while the server in front of it is down.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from crestline.testing.firecrest import batch_script, launch
from crestline.testing.firecrest.job import ENDED, Job, dependency_met
from crestline.testing.firecrest.refusals import slurm_failure
from crestline.testing.firecrest.settings import Settings, User

_TICK = 0.02
_T = TypeVar("_T")


@dataclass
class Order:
    """The options of a submission. None selects the value of the script's `#SBATCH` lines, or the default."""

    script: str
    workdir: Path
    name: str | None = None
    default_name: str = "sbatch"
    account: str | None = None
    partition: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


class Scheduler:
    """Accepts jobs, runs them when resources are free, and remembers them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: list[Job] = []
        self._busy: list[Job] = []
        self._next = 1
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="plain-slurm", daemon=True)
        self._thread.start()

    # Called by the server.

    def submit(self, order: Order, user: User) -> str:
        """Submit a job. Returns its id, or that of the array. Raises Refusal with sbatch's message."""
        asked = self._read(order)
        array = _checked(lambda: batch_script.array(asked["array"])) if "array" in asked else None
        limit = _time_limit(asked["time"]) if "time" in asked else None
        cpus = _checked(lambda: int(asked.get("ntasks") or 1) * int(asked.get("cpus-per-task") or 1))
        if cpus > self._settings.nodes * self._settings.cpus_per_node:
            raise _refused("Requested node configuration is not available")
        partition = asked.get("partition", "debug")
        if partition not in ("debug", "xfer"):
            raise slurm_failure(
                f"sbatch: error: invalid partition specified: {partition}\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified"
            )
        dependency = asked.get("dependency", "")
        with self._lock:
            self._check_dependency(dependency)
            first = self._next
            tasks = array.tasks if array else (None,)
            self._next += len(tasks)
            # Slurm splits an array as its tasks start: the last one keeps the number of the array.
            for number, task in zip((*range(first + 1, self._next), first), tasks, strict=True):
                self._jobs.append(
                    Job(
                        number=number,
                        user=user,
                        name=asked.get("job-name", order.default_name),
                        workdir=order.workdir,
                        script=order.script,
                        partition=partition,
                        account=asked.get("account", user.account),
                        time_limit=limit or self._settings.default_time_limit,
                        cpus=max(1, cpus),
                        submitted=time.time(),
                        environment=order.environment,
                        stdin=asked.get("input", "/dev/null"),
                        stdout_pattern=asked.get("output", ""),
                        stderr_pattern=asked.get("error", ""),
                        dependency=dependency,
                        array_id=first if array else None,
                        task=task,
                        array=array,
                        held="hold" in asked,
                    )
                )
        self._wake.set()
        return str(first)

    def find(self, job_id: str) -> list[Job]:
        """Return the jobs for an id: none, one, or all tasks of an array."""
        with self._lock:
            return [job for job in self._jobs if job.answers_to(job_id)]

    def all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        with self._lock:
            return list(self._jobs)

    def cancel(self, jobs: list[Job], by: User) -> None:
        """Cancel jobs: pending ones immediately, running ones with SIGTERM and, after the kill wait, SIGKILL."""
        with self._lock:
            for job in jobs:
                if not job.is_over:
                    self._end(job, f"CANCELLED by {by.uid}", signal_number=0)
        self._wake.set()

    # Called by tests.

    def requeue(self, job_id: str) -> None:
        """Run a running or ended job again under the same id (`scontrol requeue`)."""
        with self._lock:
            for job in self._known(job_id):
                job.restarts += 1
                job.ended, job.verdict, job.exit_code, job.signal = None, None, 0, 0
                if job.process is not None:
                    job.verdict = "REQUEUED"
                    launch.send(job, signal.SIGKILL)
                self._requeue(job)
        self._wake.set()

    def end(self, job_id: str, state: str, exit_code: int = 0) -> None:
        """End a job in a given raw state (`NODE_FAIL`, `OUT_OF_MEMORY`, ...), and kill its processes."""
        if not ENDED.fullmatch(state):
            raise ValueError(f"{state} is not a state that a job ends in")
        with self._lock:
            for job in self._known(job_id):
                self._end(job, state, exit_code=exit_code)
                launch.send(job, signal.SIGKILL)
        self._wake.set()

    def show_as(self, job_id: str, state: str | None) -> None:
        """Show a job in another raw state (`CONFIGURING`, `SUSPENDED`, ...). None shows its own state again."""
        with self._lock:
            for job in self._known(job_id):
                job.shown_state = state

    def hold(self, job_id: str, held: bool = True) -> None:
        """Hold a pending job, or release it."""
        with self._lock:
            for job in self._known(job_id):
                job.held = held
        self._wake.set()

    def age(self, job_id: str, seconds: float) -> None:
        """Move all times of a job into the past, to test time windows."""
        with self._lock:
            for job in self._known(job_id):
                job.submitted -= seconds
                job.started = job.started and job.started - seconds
                job.ended = job.ended and job.ended - seconds

    def close(self) -> None:
        """Kill running jobs and stop the scheduler."""
        self._closing = True
        self._wake.set()
        self._thread.join(10)
        for job in self.all():
            if job.process is not None:
                launch.send(job, signal.SIGKILL)
                job.process.wait()

    # The scheduler thread.

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            with self._lock:
                self._busy = [job for job in self._jobs if job.process is not None]
                for job in self._busy:
                    self._look_at(job)
                self._busy = [job for job in self._busy if job.process is not None]
                waiting = [job for job in self._jobs if job.state == "PENDING" and job.process is None]
                for job in waiting:
                    self._start_if_possible(job)
                active = bool(self._busy or waiting)
            self._wake.wait(_TICK if active else 1.0)

    def _look_at(self, job: Job) -> None:
        assert job.process is not None
        now = time.time()
        status = job.process.poll()
        if status is None:
            if job.kill_at is not None and now >= job.kill_at:
                launch.send(job, signal.SIGKILL)
            elif job.verdict is None and job.started is not None and now - job.started > job.time_limit:
                self._end(job, "TIMEOUT")
            return
        if job.state != "PENDING":
            launch.send(job, signal.SIGKILL)  # processes that the script left in its process group end with the job
        job.process = None
        job.kill_at = None
        if job.verdict is None:
            job.exit_code, job.signal = max(status, 0), max(-status, 0)
            self._settle(job, "COMPLETED" if status == 0 else "FAILED")
        job.verdict = None

    def _start_if_possible(self, job: Job) -> None:
        met = dependency_met(job.dependency, job, self._jobs)
        if job.held:
            job.reason = "JobHeldUser"
        elif met is not True:
            job.reason = "DependencyNeverSatisfied" if met is None else "Dependency"
        elif time.time() - job.submitted < self._settings.start_delay:
            job.reason = "None"
        elif (node := self._room_for(job)) is None:
            job.reason = "Resources"
        else:
            self._start(job, node)

    def _start(self, job: Job, node: str) -> None:
        job.node, job.started, job.reason, job.state = node, time.time(), "None", "RUNNING"
        home = self._settings.home_of(job.user.name)
        try:
            job.process = launch.start(job, self._settings.root / "spool", home, self._settings.job_environment)
        except OSError:
            job.exit_code = 1
            self._settle(job, "FAILED")
        else:
            self._busy.append(job)

    def _room_for(self, job: Job) -> str | None:
        if job.array and job.array.at_once:
            siblings = [other for other in self._busy if other.array_id == job.array_id]
            if len(siblings) >= job.array.at_once:
                return None
        nodes = [f"n{i + 1:02d}" for i in range(self._settings.nodes)]
        if job.partition == "xfer":
            used = [other for other in self._busy if other.partition == "xfer"]
            return nodes[-1] if len(used) < self._settings.transfer_slots else None
        free = dict.fromkeys(nodes, self._settings.cpus_per_node)
        for other in self._busy:
            if other.partition != "xfer":
                free[other.node] -= other.cpus
        for node in nodes:
            if free[node] >= min(job.cpus, self._settings.cpus_per_node):
                return node
        return None

    # Helpers.

    def _end(self, job: Job, state: str, exit_code: int = 0, signal_number: int = 0) -> None:
        job.exit_code, job.signal = exit_code, signal_number
        self._settle(job, state)
        if job.process is not None:
            job.verdict = state
            job.kill_at = time.time() + self._settings.kill_wait
            launch.send(job, signal.SIGCONT)
            launch.send(job, signal.SIGTERM)

    def _settle(self, job: Job, state: str) -> None:
        job.state = state
        job.reason = "None"
        job.ended = time.time()

    def _requeue(self, job: Job) -> None:
        job.state, job.reason, job.started, job.node = "PENDING", "BeginTime", None, ""
        job.kill_at = None

    def _known(self, job_id: str) -> list[Job]:
        if not (jobs := self.find(job_id)):
            raise KeyError(job_id)
        return jobs

    def _check_dependency(self, dependency: str) -> None:
        for clause in dependency.replace("?", ",").split(",") if dependency else ():
            kind, *ids = clause.split(":")
            if kind not in ("after", "afterany", "afterok", "afternotok", "aftercorr", "singleton"):
                raise _refused("Job dependency problem")
            if any(not self.find(job_id.partition("+")[0]) for job_id in ids):
                raise _refused("Job dependency problem")

    def _read(self, order: Order) -> dict[str, str]:
        if not order.script.startswith("#!"):
            raise slurm_failure(
                "sbatch: error: This does not look like a batch script.  The first\n"
                "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
                "sbatch: error: For instance: #!/bin/sh"
            )
        asked = _checked(lambda: batch_script.directives(order.script))
        given = {
            "job-name": order.name,
            "account": order.account,
            "partition": order.partition,
            "input": order.stdin,
            "output": order.stdout,
            "error": order.stderr,
        }
        return asked | {name: value for name, value in given.items() if value is not None}


def _checked(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except ValueError as error:
        raise _refused(str(error)) from None


def _time_limit(text: str) -> int:
    try:
        return batch_script.seconds(text)
    except ValueError:
        raise slurm_failure("sbatch: error: Invalid --time specification", exit_status=255) from None


def _refused(words: str) -> Exception:
    return slurm_failure(f"sbatch: error: Batch job submission failed: {words}")
