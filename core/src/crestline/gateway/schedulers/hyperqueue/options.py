"""Configuration of HyperQueue."""

from __future__ import annotations

import msgspec


class HyperQueueOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a `scheduler` table with `type = "hyperqueue"`."""

    server_directory: str | None = None
    """The server's directory with its access file; None: the user's `~/.hq-server`."""
    shared_directory: str | None = None
    """Directory of the jobs' records, at the same path on all machines; None: the gateway's own directory."""
    timeout: float = 10.0
    """Seconds for the server to respond."""
    max_age: float = 1.0
    """Maximum age of a job list in seconds."""
