"""Crestline: workflow engines on supercomputers through one REST API, FirecREST v2 or IRI.

`crestline.client` is the client of these APIs, `crestline.gateway` a server, `crestline.model` the types that both
use, `crestline.wire` the messages between them, and `crestline.cli` the `crestline` command.
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

# The gateway does not import the client.
__getattr__ = lazy_exports(
    __name__,
    {
        "crestline.client": ("BlockingSystem", "Site", "System", "connect", "connect_blocking"),
        "crestline.model": ("Job", "JobSpec", "JobState"),
    },
)
