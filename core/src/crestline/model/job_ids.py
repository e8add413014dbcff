"""Ids of arrays and of their tasks, as Slurm and PBS write them."""

from __future__ import annotations

import re


def parent(job_id: str) -> str:
    """Return the id of the whole job: `12` for `12`, `12_3`, `12_[4-9]`, `12+1` and PBS's `12[3].server`."""
    match = re.match(r"[A-Za-z0-9]+", job_id)
    return match.group() if match else job_id


def is_element(job_id: str) -> bool:
    """Return True for the id of one array task or of one component of a heterogeneous job."""
    return re.search(r"_\d+$|\[\d+\]|\+\d+$", job_id) is not None
