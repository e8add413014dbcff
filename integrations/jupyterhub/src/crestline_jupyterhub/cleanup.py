"""Ends a session: cancels its job, with retries until that succeeds, and removes its secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from crestline.model import CrestlineError, JobNotFoundError
from crestline_jupyterhub.connections import SystemFactory
from crestline_jupyterhub.job import is_attempt
from crestline_jupyterhub.staging import CONFIG, PROGRAM, RUNS

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0


async def cancel(identities: Sequence[SystemFactory], job_id: str, attempt: str) -> None:
    """Cancel the job with the first of the identities that can, and retry until that succeeds.

    Args:
        identities: open the system as each identity.
        job_id: empty if the answer to the submission was lost: the job is found by its name.
        attempt: id of the start, which is part of the job's name.
    """
    pause = 1.0
    while True:
        for connect in identities:
            try:
                system = await connect()
                if not job_id:
                    job = await system.find(lambda job: is_attempt(job.name, attempt))
                    if job is None:
                        return
                    job_id = job.job_id
                await system.cancel(job_id)
            except JobNotFoundError:
                return
            except CrestlineError as error:
                logger.warning("Job %s cannot be cancelled now: %s", job_id or attempt, error)
            else:
                return
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def remove_files(identities: Sequence[SystemFactory], folder: str, *, keep_log: bool) -> None:
    """Remove a session's folder, or all except its log. If this fails, the reaper does it later."""
    doomed = [f"{folder}/{name}" for name in (PROGRAM, CONFIG, RUNS)] if keep_log else [folder]
    for connect in identities:
        try:
            system = await connect()
            there = {f"{folder}/{file.name}" for file in await system.ls(folder)} if keep_log else {folder}
            for path in doomed:
                if path in there:
                    await system.remove(path, force=True)
        except CrestlineError as error:
            logger.info("%s is left over for now: %s", folder, error)
        else:
            return
