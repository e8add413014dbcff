"""simple-slurm: a job, and one that waits for it."""

from __future__ import annotations

import time
from pathlib import Path

from simple_slurm import Slurm

directory = str(Path.cwd())
first = Slurm(job_name="first", output="first.txt", time="00:05:00", chdir=directory).sbatch("echo one")
second = Slurm(job_name="second", output="second.txt", time="00:05:00", chdir=directory, dependency={"afterok": first})
second.sbatch("cat first.txt; echo two")
while not Path("second.txt").exists() or "two" not in Path("second.txt").read_text():
    time.sleep(1)
print(Path("second.txt").read_text(), end="")
