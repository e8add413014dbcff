"""Parsl: functions on workers that run in a job. Workers reach Parsl at ADDRESS, the name of this machine for them.

Parsl encrypts with a key in a file that its own user alone reads. Where jobs run as another user, set ENCRYPTED=no.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider


@parsl.python_app
def square(number: int) -> int:
    """Runs on a worker."""
    return number * number


@parsl.bash_app
def job_name(stdout: str = "") -> str:
    """Runs in a shell beside a worker."""
    return "echo $SLURM_JOB_NAME"


provider = SlurmProvider(
    nodes_per_block=1,
    cores_per_node=1,
    init_blocks=1,
    max_blocks=1,
    walltime="00:10:00",
    launcher=SimpleLauncher(),
    worker_init=f"export PATH={Path(sys.executable).parent}:$PATH",
    cmd_timeout=60,
)
executor = HighThroughputExecutor(
    label="jobs",
    address=os.environ.get("ADDRESS", "127.0.0.1"),
    encrypted=os.environ.get("ENCRYPTED") != "no",
    max_workers_per_node=1,
    provider=provider,
)
with parsl.load(Config(executors=[executor], strategy_period=1)):
    print("squares", [each.result() for each in [square(number) for number in range(3)]])
    name = Path("name.txt").resolve()
    job_name(stdout=str(name)).result()
    print("job", name.read_text().startswith("parsl.jobs.block"))
