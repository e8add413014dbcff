"""Slurm's job ids: `12`, an array's `12_3` and `12_[4-9%2]`, a heterogeneous job's `12+1`."""

from __future__ import annotations

import re

_JOB = re.compile(
    r"(?P<job>\d{1,10})(?:_(?P<task>\d{1,9})|_\[(?P<tasks>[\d,:%-]+)\]|\+(?P<component>\d{1,5}))?", re.ASCII
)


def is_job_id(text: str) -> bool:
    """Whether the text is a job id and nothing else, so that it is a safe argument for Slurm's programs."""
    return _JOB.fullmatch(text) is not None


def family(job_id: str) -> str:
    """Return the number of the whole array or heterogeneous job."""
    return re.split(r"[_+]", job_id, maxsplit=1)[0]


def raw_id(job_id: str, number: str) -> str | None:
    """Return Slurm's own number of a job if its id does not begin with it, as for a task of an array."""
    return number if number != family(job_id) else None


def holds(listed: str, job_id: str) -> bool:
    """Whether `listed`, such as `12_[3-7:2%4]`, contains `job_id`, such as `12_5`."""
    row, asked = _JOB.fullmatch(listed), _JOB.fullmatch(job_id)
    if row is None or asked is None or row["job"] != asked["job"] or not row["tasks"] or not asked["task"]:
        return False
    index = int(asked["task"])
    for part in row["tasks"].partition("%")[0].split(","):
        span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::([1-9]\d{0,8}))?)?", part, re.ASCII)
        if span is not None and index in range(int(span[1]), int(span[2] or span[1]) + 1, int(span[3] or 1)):
            return True
    return False


def order(job_id: str) -> tuple[int, ...]:
    """Sort key of an id: its numbers."""
    return tuple(int(part) for part in re.findall(r"\d{1,18}", job_id)[:2])
