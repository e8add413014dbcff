"""What a site says about its HyperQueue."""

from __future__ import annotations

import msgspec


class HyperQueueOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `scheduler` table with `type = "hyperqueue"`."""

    server_directory: str | None = None
    """the server's directory with its access file; None: the user's `~/.hq-server`"""
    shared_directory: str | None = None
    """where jobs leave their records, under the same path on all machines; None: the gateway's own directory"""
    timeout: float = 10.0
    """seconds for the server to answer"""
    max_age: float = 1.0
    """seconds that a job list may be old"""
