"""The environment of a job: variables of a login, the job's own and Slurm's, and no other variables of the gateway."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from crestline.gateway.hosts.local.login import login_environment
from crestline.gateway.schedulers.local.jobs import Job
from crestline.gateway.schedulers.local.supervisor import records
from crestline.model.hostlist import compress


def job_environment(job: Job, *, cluster: str, home_id: str, directory: Path, commands: Path) -> dict[str, str]:
    """Return the environment of a job that is about to start.

    Args:
        job: the job, with its allocation.
        cluster: name of the system.
        home_id: identifies this scheduler, so that another one does not take the job's processes for its own.
        directory: the job's directory, see `crestline.gateway.schedulers.local.supervisor.records`.
        commands: a directory that comes first in PATH.
    """
    found = login_environment() | job.request.environment
    found["PATH"] = f"{commands}{os.pathsep}{found['PATH']}"
    found |= dict(_slurm(job, cluster))
    # For a bash that sets PATH again (`bash -l`, `. /etc/profile`): a function that the shell and its children inherit.
    fallback = shlex.quote(str(commands / "srun"))
    found["BASH_FUNC_srun%%"] = f'() {{ "$(type -P srun || echo {fallback})" "$@"; }}'
    found["PWD"] = job.request.directory  # as the user wrote it: without PWD, shells print the resolved path
    return found | {records.MARKER: f"{home_id}/{job.id}", records.DIRECTORY: str(directory)}


def _slurm(job: Job, cluster: str) -> Iterator[tuple[str, str]]:
    request, shares = job.request, list(job.allocation.values())
    resources = request.resources
    names = list(job.allocation)
    nodes = compress(names)
    tasks = str(sum(share.tasks for share in shares))
    yield "SLURM_CLUSTER_NAME", cluster
    yield "SLURM_CPUS_ON_NODE", str(shares[0].cpus)
    yield "SLURM_JOB_ACCOUNT", request.account
    yield "SLURM_JOB_CPUS_PER_NODE", _runs([share.cpus for share in shares])
    yield "SLURM_JOB_ID", str(job.id)
    yield "SLURM_JOBID", str(job.id)
    yield "SLURM_JOB_NAME", request.name
    yield "SLURM_JOB_NODELIST", nodes
    yield "SLURM_JOB_NUM_NODES", str(len(shares))
    yield "SLURM_JOB_PARTITION", request.partition
    yield "SLURM_JOB_UID", str(os.getuid())
    yield "SLURM_JOB_USER", job.user
    yield "SLURM_LOCALID", "0"
    yield "SLURM_NNODES", str(len(shares))
    yield "SLURM_NODEID", "0"
    yield "SLURM_NODELIST", nodes
    yield "SLURM_NPROCS", tasks
    yield "SLURM_NTASKS", tasks
    yield "SLURM_PROCID", "0"
    yield "SLURM_RESTART_COUNT", "0"
    yield "SLURM_SUBMIT_DIR", request.directory
    yield "SLURM_SUBMIT_HOST", os.uname().nodename
    yield "SLURM_TASKS_PER_NODE", _runs([share.tasks for share in shares])
    yield "SLURM_CPUS_PER_TASK", str(resources.cpus_per_task)
    yield "SLURMD_NODENAME", names[0]
    if resources.tasks_per_node:
        yield "SLURM_NTASKS_PER_NODE", str(resources.tasks_per_node)
    if resources.memory_per_node is not None:
        yield "SLURM_MEM_PER_NODE", str(shares[0].memory)
    if resources.memory_per_cpu is not None:
        yield "SLURM_MEM_PER_CPU", str(resources.memory_per_cpu)
    if job.task is not None and (array := request.tasks):
        yield "SLURM_ARRAY_JOB_ID", str(job.submission)
        yield "SLURM_ARRAY_TASK_COUNT", str(len(array.tasks))
        yield "SLURM_ARRAY_TASK_ID", str(job.task)
        yield "SLURM_ARRAY_TASK_MAX", str(array.tasks[-1])
        yield "SLURM_ARRAY_TASK_MIN", str(array.tasks[0])
        yield "SLURM_ARRAY_TASK_STEP", str(array.step)


def _runs(counts: list[int]) -> str:
    """Format `[2, 2, 1]` as Slurm does: `2(x2),1`."""
    groups = [(value, len(list(group))) for value, group in groupby(counts)]
    return ",".join(f"{value}(x{times})" if times > 1 else str(value) for value, times in groups)
