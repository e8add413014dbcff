"""What a site says about its Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from crestline.gateway.schedulers.job_book import MAX_STALE


class RestOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `rest`: slurmrestd with `rest_auth/jwt`."""

    url: str
    jwt_key_file: Path
    """a copy of slurmctld's `jwt_key`: with it, a process can act as any user"""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate"""


class SlurmOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `scheduler` table with `type = "slurm"`; durations in seconds."""

    observer: str | None = None
    """POSIX user who may see all jobs: one query of the queue then serves all. None: one query for each user."""
    directory: str | None = None
    """where sbatch and the others lie; None: in the PATH"""
    timeout: float = 5.0
    """seconds for each command but sbatch"""
    submit_timeout: float = 10.0
    """seconds for sbatch"""
    max_age: float = 1.0
    """seconds for which a job list is served from memory"""
    max_stale: float = MAX_STALE
    """seconds for which an older list is served, with its age, while a newer one is late: the queue is long, or the
    batch system slow"""
    read_rate: Annotated[float, msgspec.Meta(ge=1)] = 50.0
    """commands a second that only read; the others wait, and with many active users lists get older"""
    rest: RestOptions | None = None
    """read the queue and cancel by slurmrestd; None: by squeue and scancel"""
