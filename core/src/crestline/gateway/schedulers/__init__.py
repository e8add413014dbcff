"""Batch systems, one small module or folder each, behind the interface in `base`.

Nothing is imported here: the supervisors of `local`'s jobs, one process each, are below.
"""
