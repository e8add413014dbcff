"""Hosts: the machines that run commands and hold files, behind the interface in `base`."""

from crestline.gateway.hosts.base import Commands, Completed, Files, Host, OpenFile, TemporaryFiles

__all__ = ["Commands", "Completed", "Files", "Host", "OpenFile", "TemporaryFiles"]
