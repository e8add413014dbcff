"""A job as a client submits it, and a job as a scheduler reports it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from crestline.model.state import JobState


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and with which resources.

    Exactly one of `script` and `script_path` is needed. Resources beyond FirecREST's own fields travel as `#SBATCH`
    lines of the script (see `render_script`), so they work on every FirecREST v2 gateway.

    >>> JobSpec(script="#!/bin/bash\\nsrun pw.x\\n", workdir="/scratch/u/run1", nodes=2, time_limit="00:20:00").nodes
    2
    """

    script: str | None = None
    """text of a batch script, starting with `#!`"""
    script_path: str | None = None
    """absolute path of a batch script that lies on the system"""
    workdir: str = ""
    """absolute path of the working directory on the system; empty: the default of the file system"""
    name: str | None = None
    account: str | None = None
    partition: str | None = None
    reservation: str | None = None
    time_limit: str | int | None = None
    """`[days-]hours:minutes:seconds` as Slurm writes it, or seconds"""
    nodes: int | None = None
    tasks: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: str | None = None
    """memory per node, with unit (`4G`)"""
    gpus: str | int | None = None
    constraint: str | None = None
    qos: str | None = None
    array: str | None = None
    """array indexes as `sbatch --array` takes them (`0-9%2`)"""
    dependency: str | None = None
    """as `sbatch --dependency` takes it (`afterok:123`)"""
    exclusive: bool = False
    environment: Mapping[str, str] = {}
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    directives: tuple[str, ...] = ()
    """further `sbatch` options, one each, without `#SBATCH` (`--mail-type=END`)"""


class JobTimes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Times of a job: seconds since the epoch, durations in seconds; None where the scheduler does not say.

    >>> JobTimes(submit=1790000000, elapsed=42).start
    """

    submit: int | None = None
    start: int | None = None
    end: int | None = None
    elapsed: int | None = None
    suspended: int | None = None
    limit: int | None = None
    expected_start: int | None = None
    """the scheduler's estimate for a job that waits"""


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as last seen.

    `stdout` and `stderr` are paths on the system; they are known after `client.metadata(job)` or on a gateway that
    lists them, else None.

    >>> job = Job(job_id="42", state=JobState.COMPLETED, exit_code=0)
    >>> job.is_finished
    True
    """

    job_id: str
    state: JobState
    raw_id: str = ""
    """the scheduler's own number of an array task; empty where it is that of the array, or not told"""
    raw_state: str = ""
    """the scheduler's own word, unchanged"""
    reason: str = ""
    """why it is pending, or why it ended, in the scheduler's words"""
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
    """allocated, or asked for while it waits; None where the gateway does not say"""
    nodes: str = ""
    """hostlist (`nid[1-2]`), empty while there is none"""
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
        """Nodes times hours of wall-clock time so far; None where the scheduler does not say."""
        seconds = self.times.elapsed
        if seconds is None and self.times.start is not None and self.times.end is not None:
            seconds = self.times.end - self.times.start
        if seconds is None or self.node_count is None:
            return None
        return self.node_count * seconds / 3600


class JobUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has used of what it holds or held; None where the scheduler does not say.

    >>> JobUsage(job_id="42", elapsed=60, cpus=4, cpu_seconds=120).cpu_efficiency
    0.5
    """

    job_id: str
    elapsed: int | None = None
    """seconds that it has run"""
    cpus: int | None = None
    """allocated"""
    cpu_seconds: float | None = None
    """processor time of all its processes"""
    memory: int | None = None
    """bytes at the peak, of all nodes"""
    memory_limit: int | None = None
    """bytes allocated, of all nodes"""
    gpus: int | None = None
    """allocated"""
    gpu_use: float | None = None
    """mean share of one GPU times the number of GPUs, between 0 and `gpus`"""

    @property
    def cpu_efficiency(self) -> float | None:
        """Share of the allocated processor time that was used, between 0 and 1."""
        if self.cpu_seconds is None or not self.cpus or not self.elapsed:
            return None
        return self.cpu_seconds / (self.cpus * self.elapsed)

    @property
    def memory_efficiency(self) -> float | None:
        """Share of the allocated memory that was used at the peak."""
        return self.memory / self.memory_limit if self.memory is not None and self.memory_limit else None

    @property
    def gpu_efficiency(self) -> float | None:
        """Share of the allocated GPUs that was busy on average."""
        return self.gpu_use / self.gpus if self.gpu_use is not None and self.gpus else None
