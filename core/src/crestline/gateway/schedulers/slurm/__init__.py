"""Slurm by its commands, 22.05 and later.

`scheduler` is the class. `commands` runs the programs and reads their refusals, `tables` cuts their output into cells;
`queue` is squeue, `accounting` sacct, `submission` sbatch, `resources` sinfo and the like, `streams` where a job's
output goes.
"""

from crestline.gateway.schedulers.registry import SchedulerSetup
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.gateway.schedulers.slurm.scheduler import SlurmScheduler

__all__ = ["SlurmOptions", "SlurmScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> SlurmScheduler:
    """For `type = "slurm"`."""
    return SlurmScheduler(setup.name, setup.commands, setup.read_options(SlurmOptions))
