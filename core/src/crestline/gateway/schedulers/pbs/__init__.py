"""OpenPBS by its commands.

`scheduler` is the class. `commands` runs the programs and reads their refusals, `output` reads what they print, `jobs`
shows the jobs, `submission` is qsub, `resources` what the machine has.
"""

from crestline.gateway.schedulers.pbs.options import PbsOptions
from crestline.gateway.schedulers.pbs.scheduler import PbsScheduler
from crestline.gateway.schedulers.registry import SchedulerSetup

__all__ = ["PbsOptions", "PbsScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> PbsScheduler:
    """For `type = "pbs"`."""
    return PbsScheduler(setup.name, setup.commands, setup.read_options(PbsOptions))
