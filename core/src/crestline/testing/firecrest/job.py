"""A job, or one task of an array, in the scheduler's memory."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crestline.testing.firecrest.batch_script import Array, file_name
from crestline.testing.firecrest.settings import User

ENDED = re.compile(r"COMPLETED|FAILED|TIMEOUT|CANCELLED.*|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|BOOT_FAIL|DEADLINE")

NO_TASK = 4294967294
"""Index that Slurm writes if there is no task."""


@dataclass
class Job:
    """A job. All times are seconds since 1970, and all states are Slurm's own."""

    number: int
    """Slurm's internal job number. For an array's last task it is also the id of the array."""
    user: User
    name: str
    workdir: Path
    script: str
    partition: str
    account: str
    time_limit: int
    cpus: int
    submitted: float
    environment: dict[str, str]
    stdin: str = "/dev/null"
    stdout_pattern: str = ""
    stderr_pattern: str = ""
    dependency: str = ""
    array_id: int | None = None
    task: int | None = None
    array: Array | None = None

    state: str = "PENDING"
    reason: str = "None"
    shown_state: str | None = None
    """State to show instead of the actual one, set by a test."""
    held: bool = False
    started: float | None = None
    ended: float | None = None
    exit_code: int = 0
    signal: int = 0
    node: str = ""
    restarts: int = 0
    verdict: str | None = None
    """Final state of a job whose processes are still ending."""
    kill_at: float | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The id in lists: `12`, or `12_3` for a task of an array."""
        return str(self.number) if self.array_id is None else f"{self.array_id}_{self.task}"

    @property
    def is_over(self) -> bool:
        """Whether the job is in a terminal state, which only a requeue can change."""
        return self.ended is not None

    def answers_to(self, job_id: str) -> bool:
        """Whether `job_id` (an array's id, a task's number, a plain job's id) refers to this job."""
        return job_id in (str(self.number), self.id) or (self.array_id is not None and job_id == str(self.array_id))

    @property
    def stdout(self) -> Path:
        """Path of its standard output, by default `slurm-12.out` or `slurm-12_3.out` in its directory."""
        default = "slurm-%j.out" if self.array_id is None else "slurm-%A_%a.out"
        return self._path(self.stdout_pattern or default)

    @property
    def stderr(self) -> Path:
        """Path of its standard error, by default that of the standard output."""
        return self._path(self.stderr_pattern) if self.stderr_pattern else self.stdout

    def _path(self, pattern: str) -> Path:
        values = {
            "j": str(self.number),
            "J": str(self.number),
            "A": str(self.array_id or self.number),
            "a": str(self.task if self.task is not None else NO_TASK),
            "x": self.name,
            "u": self.user.name,
            "N": self.node or "n01",
            "n": "0",
            "s": "batch",
        }
        return self.workdir / file_name(pattern, values)

    def slurm_variables(self, home: Path) -> dict[str, str]:
        """Return the variables that Slurm sets for the script. SLURM_RESTART_COUNT is set only after a requeue."""
        found = {
            "SLURM_JOB_ID": str(self.number),
            "SLURM_JOBID": str(self.number),
            "SLURM_JOB_NAME": self.name,
            "SLURM_JOB_USER": self.user.name,
            "SLURM_JOB_ACCOUNT": self.account,
            "SLURM_JOB_PARTITION": self.partition,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NNODES": "1",
            "SLURM_JOB_NODELIST": self.node,
            "SLURM_NODELIST": self.node,
            "SLURMD_NODENAME": self.node,
            "SLURM_CPUS_ON_NODE": str(self.cpus),
            "SLURM_CLUSTER_NAME": "lab",
            "SLURM_SUBMIT_DIR": str(home),
        }
        if self.array is not None:
            tasks = self.array.tasks
            found |= {
                "SLURM_ARRAY_JOB_ID": str(self.array_id),
                "SLURM_ARRAY_TASK_ID": str(self.task),
                "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
                "SLURM_ARRAY_TASK_MIN": str(tasks[0]),
                "SLURM_ARRAY_TASK_MAX": str(tasks[-1]),
            }
        if self.restarts:
            found["SLURM_RESTART_COUNT"] = str(self.restarts)
        return found


def dependency_met(dependency: str, job: Job, jobs: Iterable[Job]) -> bool | None:
    """Whether the dependency of `job` is satisfied. None if it never will be."""
    if not dependency:
        return True
    jobs = list(jobs)
    any_suffices = "?" in dependency
    answers = [_clause_met(clause, job, jobs) for clause in re.split("[,?]", dependency)]
    if any_suffices:
        return True if True in answers else (None if all(answer is None for answer in answers) else False)
    return None if None in answers else all(answers)


def _clause_met(clause: str, job: Job, jobs: list[Job]) -> bool | None:
    kind, *ids = clause.split(":")
    if kind == "singleton":
        same = [other for other in jobs if other.user == job.user and other.name == job.name]
        return all(other.is_over for other in same if other.number < job.number)
    others = [other for other in jobs for job_id in ids if other.answers_to(job_id.partition("+")[0])]
    if kind == "after":
        return all(other.started is not None or other.is_over for other in others)
    if not all(other.is_over for other in others):
        return False
    if kind == "afterany":
        return True
    good = all(other.state == "COMPLETED" for other in others)
    if kind == "afternotok":
        good = not good
    return True if good else None
