"""Runs that have a key: where they work, and how a later command finds the job of an earlier one."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from crestline.cli.remote import absolute
from crestline.model import JobNotFoundError, MissingFileError

if TYPE_CHECKING:
    from crestline.client import System

_NOTE = ".crestline-run"
"""file in the working directory with the job's id"""


async def keyed_workdir(system: System, key: str) -> str:
    """The working directory of the run called `key`, the same in every process."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", key)[:60].lstrip(".-")
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    return await absolute(system, f"crestline-runs/{readable}-{digest}")


async def note_job(system: System, workdir: str, job_id: str) -> None:
    """Write down, beside the files, which job the run is."""
    await system.write_text(f"{workdir}/{_NOTE}", f"{job_id}\n")


async def noted_job(system: System, workdir: str) -> str | None:
    """The job that `note_job` wrote down, if any."""
    try:
        return (await system.read_text(f"{workdir}/{_NOTE}")).strip() or None
    except MissingFileError:
        return None


async def find_job(system: System, key: str, workdir: str = "") -> str:
    """The job of the run called `key`, also where its submission was the last thing that its process did.

    Raises:
        JobNotFoundError: there is none.
    """
    place = await absolute(system, workdir) if workdir else await keyed_workdir(system, key)
    if noted := await noted_job(system, place):
        return noted
    found = [job.job_id for job in await system.jobs() if job.workdir.rstrip("/") == place]
    if not found:
        raise JobNotFoundError(f"There is no job of a run {key!r}.", hint="Check the key; `crestline ps` lists jobs.")
    return found[-1]
