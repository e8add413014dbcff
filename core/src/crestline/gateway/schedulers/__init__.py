"""Batch systems, one small module or folder each, behind the interface in `base`."""

from crestline.gateway.schedulers.base import JobList, JobQuery, Scheduler

__all__ = ["JobList", "JobQuery", "Scheduler"]
