"""Facility APIs, one package each, behind the interface in `base`. Built in is FirecREST v2; plug-ins add others."""

from crestline.client.backends.base import (
    Backend,
    FileEndpoints,
    JobEndpoints,
    SystemEndpoints,
    TransferEndpoints,
)
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import (
    BundleFilter,
    Description,
    JobFilter,
    JobNews,
    NotSentError,
    TransferMethod,
)

__all__ = [
    "Backend",
    "BundleFilter",
    "Capability",
    "Description",
    "FileEndpoints",
    "JobEndpoints",
    "JobFilter",
    "JobNews",
    "NotSentError",
    "SystemEndpoints",
    "TransferEndpoints",
    "TransferMethod",
]
