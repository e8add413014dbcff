"""Which strategy moves the files of a system."""

from __future__ import annotations

from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.files.direct import DirectFiles
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.streams import StreamFiles
from crestline.client.monitor import JobMonitor


def choose_files(backend: Backend, monitor: JobMonitor) -> FileStrategy:
    """The strategy for an open backend."""
    if {Capability.CONTENT, Capability.TAR, Capability.TAR_SELECT} <= backend.capabilities:
        return StreamFiles(backend, monitor)
    return DirectFiles(backend, monitor)
