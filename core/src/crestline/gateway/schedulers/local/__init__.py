"""The built-in batch system: supervised processes on this machine, in Slurm's words.

`scheduler` is the class. `request` says what a job asks for, `queue` what runs where and when, `dependencies` what must
happen before; `store` remembers, `launch` hands a job over to its own supervisor (`crestline.gateway.supervisor`),
`listing` shows it.
"""

from crestline.gateway.schedulers.local.options import LocalOptions
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.schedulers.registry import SchedulerSetup

__all__ = ["LocalOptions", "LocalScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> LocalScheduler:
    """For `type = "local"`."""
    return LocalScheduler(setup.directory, setup.name, setup.read_options(LocalOptions))
