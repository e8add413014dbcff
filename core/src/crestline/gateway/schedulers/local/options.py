"""Configuration of the local scheduler."""

from __future__ import annotations

import msgspec


class NodesConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Virtual nodes of the `local` scheduler. They only count resources. All jobs run on this machine."""

    names: list[str]
    cpus: int
    memory: int
    """MiB per node."""


class PartitionConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A partition of the `local` scheduler. Times are in seconds."""

    name: str
    nodes: list[str] | None = None
    """Names of its nodes; None: all."""
    max_time: int | None = None
    default_time: int | None = None


class LocalOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The `scheduler` table of a system with `type = "local"`."""

    nodes: list[NodesConfig] | None = None
    """None: this machine, with all its cores and memory."""
    partitions: list[PartitionConfig] | None = None
    """None: one partition, `normal`, which is the default."""
