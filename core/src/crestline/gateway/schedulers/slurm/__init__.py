"""Slurm 22.05 and later, through its commands.

`scheduler` has the class. `commands` runs the programs and parses their errors, and `tables` splits their output into
cells. `queue` handles squeue, `accounting` sacct, `submission` sbatch, `resources` sinfo and similar commands, and
`streams` finds a job's output files.
"""

from crestline.gateway.schedulers.registry import SchedulerSetup
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.gateway.schedulers.slurm.scheduler import SlurmScheduler

__all__ = ["SlurmOptions", "SlurmScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> SlurmScheduler:
    """Create the scheduler for `type = "slurm"`."""
    return SlurmScheduler(setup.name, setup.commands, setup.read_options(SlurmOptions))
