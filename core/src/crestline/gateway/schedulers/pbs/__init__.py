"""OpenPBS through its commands.

`scheduler` has the class. `commands` runs the programs and parses their errors, `output` parses their output, `jobs`
describes jobs, `submission` builds the command line of qsub, and `resources` lists nodes and queues.
"""

from crestline.gateway.schedulers.pbs.options import PbsOptions
from crestline.gateway.schedulers.pbs.scheduler import PbsScheduler
from crestline.gateway.schedulers.registry import SchedulerSetup

__all__ = ["PbsOptions", "PbsScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> PbsScheduler:
    """Create the scheduler for `type = "pbs"`."""
    return PbsScheduler(setup.name, setup.commands, setup.read_options(PbsOptions))
