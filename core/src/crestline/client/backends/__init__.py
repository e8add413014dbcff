"""Facility APIs, one module each, behind the interface in `base`. FirecREST v2 is the one that is there."""

from crestline.client.backends.base import Backend
from crestline.client.backends.messages import JobFilter

__all__ = ["Backend", "JobFilter"]
