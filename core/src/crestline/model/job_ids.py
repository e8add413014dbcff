"""How ids of arrays and of their elements are written, by every scheduler."""

from __future__ import annotations

import re


def parent(job_id: str) -> str:
    """The id of the whole: `12` for `12`, `12_3`, `12_[4-9]`, `12+1` and PBS's `12[3].server`."""
    match = re.match(r"[A-Za-z0-9]+", job_id)
    return match.group() if match else job_id


def is_element(job_id: str) -> bool:
    """True for one element of an array or one component of a heterogeneous job."""
    return re.search(r"_\d+$|\[\d+\]|\+\d+$", job_id) is not None
