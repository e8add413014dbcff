"""Configuration of PBS."""

from __future__ import annotations

from crestline.gateway.schedulers.programs import ProgramOptions


class PbsOptions(ProgramOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a `scheduler` table with `type = "pbs"`."""
