"""The machines that hold the files, behind the interface in `base`."""

from crestline.gateway.hosts.base import Files, Host, OpenFile

__all__ = ["Files", "Host", "OpenFile"]
