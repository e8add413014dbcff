"""A record of the jobs that `crestline submit` started from this machine, for systems whose job list fails."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.model import Job, JobState
from crestline.private_files import write_private

if TYPE_CHECKING:
    from crestline.client import System

_LONGEST = 64 * 1024
"""Maximum size of the file in bytes. Beyond that, the older half is dropped."""
_FRESH = 600.0
"""Seconds after its submission during which a job may not be visible yet."""


def note_job(system: System, job_id: str) -> None:
    """Record a job. Write errors are ignored."""
    file = _file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as stream:
            stream.write(f"{time.time():.0f} {system.gateway_url} {system.name} {job_id}\n")
        if file.stat().st_size > _LONGEST:
            lines = file.read_text().splitlines(keepends=True)
            write_private(file, "".join(lines[len(lines) // 2 :]).encode())


def recent_ids(system: System, seconds: float) -> list[str]:
    """Return the ids of the jobs submitted to this system in the last `seconds`, newest first."""
    try:
        lines = _file().read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        words = line.split(" ")
        if len(words) == 4 and words[1:3] == [system.gateway_url, system.name] and words[0].isdigit():
            if time.time() - int(words[0]) > seconds:
                break
            found.append(words[3])
    return found


def as_submitted(system: System, job_id: str) -> Job | str:
    """Return a submitted job if it was submitted recently and may not be visible yet, otherwise its id."""
    if job_id in recent_ids(system, _FRESH):
        return Job(job_id=job_id, state=JobState.SUBMITTED, system=system.name)
    return job_id


def _file() -> Path:
    from crestline.client import sites_file

    return sites_file().with_name("recent_jobs")
