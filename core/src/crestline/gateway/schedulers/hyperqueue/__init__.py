"""HyperQueue: jobs on several machines that have no batch system, by its Python client.

That client can submit and wait, and no more. So each task runs under `runner.sh`, which leaves its start and end as
files in a directory that all machines share (`records`) and heeds a request to cancel there. `engine` hands tasks to
the server, `scheduler` is the class.
"""

from crestline.gateway.schedulers.hyperqueue.options import HyperQueueOptions
from crestline.gateway.schedulers.hyperqueue.scheduler import HyperQueueScheduler
from crestline.gateway.schedulers.registry import SchedulerSetup

__all__ = ["HyperQueueOptions", "HyperQueueScheduler", "create_scheduler"]


def create_scheduler(setup: SchedulerSetup) -> HyperQueueScheduler:
    """For `type = "hyperqueue"`."""
    return HyperQueueScheduler(setup.name, setup.directory, setup.read_options(HyperQueueOptions))
