"""Hosts: the machines that run commands and hold files, behind the interface in `base`."""

from crestline.gateway.hosts.base import (
    MAX_ANSWER,
    MAX_OUTPUT,
    Commands,
    Completed,
    Files,
    Host,
    OpenFile,
    TemporaryFiles,
)

__all__ = ["MAX_ANSWER", "MAX_OUTPUT", "Commands", "Completed", "Files", "Host", "OpenFile", "TemporaryFiles"]
