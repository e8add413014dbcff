"""Paths of a job's standard streams: sbatch(1), "FILENAME PATTERN"."""

from __future__ import annotations

import os
import re

from crestline.gateway.schedulers.local.jobs import Job


def stream_paths(job: Job) -> tuple[str, str, str]:
    """Return absolute paths of standard input, output and error. `%N` stays while the job has no node."""
    request = job.request
    default = "slurm-%j.out" if job.task is None else "slurm-%A_%a.out"
    stdout = _path(job, request.stdout or default)
    return (
        _path(job, request.stdin) if request.stdin else os.devnull,
        stdout,
        _path(job, request.stderr) if request.stderr else stdout,
    )


def _path(job: Job, pattern: str) -> str:
    if "\\" in pattern:  # a backslash disables the patterns
        return os.path.join(job.request.directory, pattern.replace("\\", ""))
    values = {
        "%": "%",
        "A": str(job.submission),
        "a": "4294967294" if job.task is None else str(job.task),
        "J": str(job.id),
        "j": str(job.id),
        "n": "0",
        "s": "batch",
        "t": "0",
        "u": job.user,
        "x": job.request.name,
    }
    if job.allocation:
        values["N"] = next(iter(job.allocation))

    def value(match: re.Match[str]) -> str:
        found = values.get(match[2])
        if found is None:
            return match[0]
        return found.zfill(min(int(match[1] or 0), 10)) if match[2] in "AaJjnt" else found

    return os.path.join(job.request.directory, re.sub(r"%(\d{0,4})([A-Za-z%])", value, pattern))
