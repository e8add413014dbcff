"""Facility APIs, one module each, behind the interface in `base`. FirecREST v2 is the one that is there."""

from crestline.client.backends.base import Backend, JobFilter

__all__ = ["Backend", "JobFilter"]
