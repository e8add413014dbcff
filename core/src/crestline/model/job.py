"""A job as a client submits it, and a job as a scheduler reports it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from crestline.model.state import JobState


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job to submit: its script and its resources.

    Exactly one of `script` and `script_path` is required. Resources that FirecREST has no field for become `#SBATCH`
    lines of the script (see `render_script`), so they work on every FirecREST v2 gateway. None leaves a resource to
    the scheduler's default.

    >>> JobSpec(script="#!/bin/bash\\nsrun pw.x\\n", workdir="/scratch/u/run1", nodes=2, time_limit="00:20:00").nodes
    2
    """

    script: str | None = None
    """text of a batch script, starting with `#!`"""
    script_path: str | None = None
    """absolute path of a batch script on the system"""
    workdir: str = ""
    """absolute path of the working directory on the system; empty for the default of the file system"""
    name: str | None = None
    """name of the job in the scheduler's lists"""
    account: str | None = None
    """account that the job is charged to"""
    partition: str | None = None
    reservation: str | None = None
    time_limit: str | int | None = None
    """`[days-]hours:minutes:seconds` as Slurm writes it, or seconds"""
    nodes: int | None = None
    """number of nodes"""
    tasks: int | None = None
    """number of tasks (processes) on all nodes"""
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: str | None = None
    """memory per node, with unit (`4G`)"""
    gpus: str | int | None = None
    """number of GPUs of the job, also with a type as `sbatch --gpus` takes it (`a100:2`)"""
    constraint: str | None = None
    qos: str | None = None
    array: str | None = None
    """array indexes as `sbatch --array` takes them (`0-9%2`)"""
    dependency: str | None = None
    """as `sbatch --dependency` takes it (`afterok:123`)"""
    exclusive: bool = False
    """whether the job shares its nodes with no other job"""
    environment: Mapping[str, str] = {}
    """variables of the job's environment"""
    stdin: str | None = None
    """path that the job reads as standard input"""
    stdout: str | None = None
    """path of the job's standard output; the scheduler fills in patterns such as `%j`"""
    stderr: str | None = None
    """path of the job's standard error"""
    directives: tuple[str, ...] = ()
    """further `sbatch` options, one each, without `#SBATCH` (`--mail-type=END`)"""


class JobTimes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Times of a job. Points in time are seconds since the epoch, and durations are seconds.

    A value is None if the scheduler does not report it.

    >>> JobTimes(submit=1790000000, elapsed=42).start
    """

    submit: int | None = None
    start: int | None = None
    end: int | None = None
    elapsed: int | None = None
    """duration of the job so far, in seconds"""
    suspended: int | None = None
    """duration of suspensions, in seconds"""
    limit: int | None = None
    """time limit of the job, in seconds"""
    expected_start: int | None = None
    """the scheduler's estimate for a waiting job, in seconds since the epoch"""


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as the scheduler last reported it.

    `script`, `stdin`, `stdout` and `stderr` are None until `System.metadata` has fetched them, unless the gateway
    lists them. `stdin`, `stdout` and `stderr` are paths on the system.

    >>> job = Job(job_id="42", state=JobState.COMPLETED, exit_code=0)
    >>> job.is_finished
    True
    """

    job_id: str
    state: JobState
    raw_id: str = ""
    """the scheduler's own number of an array task; empty if it is that of the array or not reported"""
    raw_state: str = ""
    """the scheduler's own word for the state, unchanged"""
    reason: str = ""
    """why the job waits or why it ended, in the scheduler's words"""
    name: str = ""
    system: str = ""
    user: str = ""
    group: str = ""
    account: str = ""
    partition: str = ""
    cluster: str = ""
    """the scheduler's own name for the system"""
    priority: int | None = None
    cpus: int | None = None
    """number of CPUs, allocated or (while the job waits) requested; None if not reported"""
    nodes: str = ""
    """hostlist (`nid[1-2]`); empty before the job starts"""
    node_count: int | None = None
    workdir: str = ""
    exit_code: int | None = None
    signal: int | None = None
    times: JobTimes = JobTimes()
    script: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None

    @property
    def is_finished(self) -> bool:
        """True once the job can never run again under this id."""
        return self.state.is_terminal

    @property
    def node_hours(self) -> float | None:
        """Number of nodes times hours of wall-clock time so far; None if the scheduler does not report them."""
        seconds = self.times.elapsed
        if seconds is None and self.times.start is not None and self.times.end is not None:
            seconds = self.times.end - self.times.start
        if seconds is None or self.node_count is None:
            return None
        return self.node_count * seconds / 3600


class JobUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Resources that a job has allocated and how much of them it has used.

    A value is None if the scheduler does not report it.

    >>> JobUsage(job_id="42", elapsed=60, cpus=4, cpu_seconds=120).cpu_efficiency
    0.5
    """

    job_id: str
    elapsed: int | None = None
    """seconds that the job has run"""
    cpus: int | None = None
    """number of allocated CPUs"""
    cpu_seconds: float | None = None
    """processor time of all processes of the job, in seconds"""
    memory: int | None = None
    """peak memory in bytes, on all nodes"""
    memory_limit: int | None = None
    """allocated memory in bytes, on all nodes"""
    gpus: int | None = None
    """number of allocated GPUs"""
    gpu_use: float | None = None
    """mean number of busy GPUs, between 0 and `gpus`"""

    @property
    def cpu_efficiency(self) -> float | None:
        """Share of the allocated processor time that was used, between 0 and 1."""
        if self.cpu_seconds is None or not self.cpus or not self.elapsed:
            return None
        return self.cpu_seconds / (self.cpus * self.elapsed)

    @property
    def memory_efficiency(self) -> float | None:
        """Share of the allocated memory that was used at the peak, between 0 and 1."""
        return self.memory / self.memory_limit if self.memory is not None and self.memory_limit else None

    @property
    def gpu_efficiency(self) -> float | None:
        """Mean share of the allocated GPUs that was busy, between 0 and 1."""
        return self.gpu_use / self.gpus if self.gpu_use is not None and self.gpus else None
