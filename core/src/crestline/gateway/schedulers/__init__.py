"""Schedulers, one module or package each, behind the interface in `base`.

This module imports nothing, because the supervisors of `local`, one process per job, are modules below it.
"""
