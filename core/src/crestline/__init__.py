"""Crestline: workflow engines on supercomputers through one REST API, FirecREST v2.

`crestline.client` talks to any FirecREST v2 gateway, `crestline.gateway` is one, `crestline.model` holds the words both
use, `crestline.wire` what crosses between them, and `crestline.cli` is the `crestline` command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crestline.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from crestline.client import BlockingSystem, Site, System, connect, connect_blocking
    from crestline.model import Job, JobSpec, JobState

__version__ = "0.1.0"

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

# The gateway needs no client.
__getattr__ = lazy_exports(
    __name__,
    {
        "crestline.client": ("BlockingSystem", "Site", "System", "connect", "connect_blocking"),
        "crestline.model": ("Job", "JobSpec", "JobState"),
    },
)
