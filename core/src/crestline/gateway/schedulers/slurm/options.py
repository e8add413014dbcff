"""Configuration of Slurm."""

from __future__ import annotations

from pathlib import Path

import msgspec

from crestline.gateway.schedulers.programs import ProgramOptions


class RestOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `rest`: slurmrestd with `rest_auth/jwt`."""

    url: str
    jwt_key_file: Path
    """A copy of slurmctld's `jwt_key`. With it, a process can act as any user."""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate."""


class SlurmOptions(ProgramOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a `scheduler` table with `type = "slurm"`."""

    rest: RestOptions | None = None
    """Use slurmrestd to read the queue and to cancel; None: squeue and scancel."""
