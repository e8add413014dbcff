"""HyperQueue: jobs on several machines without a batch system, through its Python client.

That client can only submit and wait. Therefore each task runs under `runner.sh`, which records its start and end in
files of a directory that all machines share (`records`), and watches for a request to cancel there. `engine` submits
tasks to the server, and `scheduler` has the class.
"""

from crestline.gateway.schedulers.hyperqueue.options import HyperQueueOptions
from crestline.gateway.schedulers.hyperqueue.scheduler import HyperQueueScheduler
from crestline.gateway.schedulers.registry import SchedulerSetup

__all__ = ["HyperQueueOptions", "HyperQueueScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> HyperQueueScheduler:
    """Create the scheduler for `type = "hyperqueue"`."""
    return HyperQueueScheduler(setup.name, setup.directory, setup.read_options(HyperQueueOptions))
