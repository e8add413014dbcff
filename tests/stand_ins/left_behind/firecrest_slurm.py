"""A site's own ReFrame backend: it registers its name."""

from reframe.core.backends import register_scheduler
from reframe.core.schedulers.slurm import SlurmJobScheduler


@register_scheduler("firecrest-slurm")
class FirecrestSlurmScheduler(SlurmJobScheduler):
    """Never submits here."""
