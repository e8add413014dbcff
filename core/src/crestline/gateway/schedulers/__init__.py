"""Batch systems, one small module or folder each, behind the interface in `base`."""

from crestline.gateway.schedulers.base import JobQuery, Scheduler

__all__ = ["JobQuery", "Scheduler"]
