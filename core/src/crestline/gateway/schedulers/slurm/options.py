"""What a site says about its Slurm."""

from __future__ import annotations

from pathlib import Path

import msgspec

from crestline.gateway.schedulers.programs import ProgramOptions


class RestOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `rest`: slurmrestd with `rest_auth/jwt`."""

    url: str
    jwt_key_file: Path
    """a copy of slurmctld's `jwt_key`: with it, a process can act as any user"""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate"""


class SlurmOptions(ProgramOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `scheduler` table with `type = "slurm"`."""

    rest: RestOptions | None = None
    """read the queue and cancel by slurmrestd; None: by squeue and scancel"""
