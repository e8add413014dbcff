"""Crestline: workflow engines on supercomputers through one REST API, FirecREST v2.

`crestline.client` talks to any FirecREST v2 gateway, `crestline.gateway` is one, `crestline.model` holds the words both
use, `crestline.wire` what crosses between them, and `crestline.cli` is the `crestline` command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crestline.client import BlockingSystem, Site, System, connect, connect_blocking
    from crestline.model import Job, JobSpec, JobState

__version__ = "0.1.0"

_HOMES = {
    "crestline.client": ("BlockingSystem", "Site", "System", "connect", "connect_blocking"),
    "crestline.model": ("Job", "JobSpec", "JobState"),
}

__all__ = [
    "BlockingSystem",
    "Job",
    "JobSpec",
    "JobState",
    "Site",
    "System",
    "__version__",
    "connect",
    "connect_blocking",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: the gateway needs no client."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
