"""Script and streams of jobs: from slurmctld while it has them, then from accounting."""

from __future__ import annotations

import asyncio
import posixpath
import re

from crestline.gateway.schedulers.script_files import MAX_SCRIPT
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.queue import read_queue_fields
from crestline.gateway.schedulers.slurm.streams import Streams, asked_for, job_metadata, options_of
from crestline.gateway.schedulers.slurm.tables import read_rows, text
from crestline.wire.compute import JobInfo, JobMetadata

_STREAMS = ("JobArrayID", "JobID", "STDIN", "STDOUT", "STDERR")
_MAX_SCRIPT = MAX_SCRIPT + 64 * 1024
"""Maximum size in bytes of a script with sacct's text around it."""
_RECORDED = ("JobID", "JobIDRaw", "SubmitLine")


async def read_metadata(commands: SlurmCommands, user: str, jobs: list[JobInfo]) -> list[JobMetadata]:
    """Return the script and the paths of the streams of one job of `user`, or of the tasks of one array.

    Raises:
        GatewayUnavailableError: Slurm does not respond.
    """
    number = job_ids.family(jobs[0].job_id)
    held = {row["JobArrayID"]: row for row in await read_queue_fields(commands, user, None, _STREAMS, [number])}
    if held:
        script = await _held_script(commands, user, next(iter(held.values()))["JobID"])
    else:
        script = await _recorded_script(commands, user, number)
    if all(_row(held, job.job_id) for job in jobs):
        recorded = {}
    else:
        rows = await read_rows(commands, user, "sacct", _RECORDED, "--allocations", f"--jobs={number}")
        recorded = {row["JobID"]: row for row in rows}
    options = await asyncio.to_thread(options_of, script or "")
    answer = []
    for job in jobs:
        if (row := _row(held, job.job_id)) is not None:
            paths = {text(row["STDOUT"]), text(row["STDERR"])} - {None}
            if "_" in job.job_id and paths <= _defaults(job, row["JobID"]):
                # For an array task without its own file, squeue shows the default of a job that is not an array.
                streams = Streams(row["JobID"], text(row["STDIN"]), None, None)
            else:
                streams = Streams(row["JobID"], text(row["STDIN"]), text(row["STDOUT"]), text(row["STDERR"]))
        else:
            row = recorded.get(job.job_id, {})
            asked = asked_for(options, row.get("SubmitLine", "").replace(f"--job-name={job.name}", ""))
            raw_id = row.get("JobIDRaw", number)
            streams = Streams(raw_id, asked.get("input"), asked.get("output"), asked.get("error"))
        answer.append(job_metadata(job, script, streams))
    return answer


def _defaults(job: JobInfo, raw_id: str) -> set[str | None]:
    names = ("slurm-%j.out", "slurm-%J.out", f"slurm-{raw_id}.out")
    return {*names, *(posixpath.join(job.working_directory, name) for name in names)}


def _row(held: dict[str, dict[str, str]], job_id: str) -> dict[str, str] | None:
    exact = held.get(job_id)
    return exact or next((row for listed, row in held.items() if job_ids.holds(listed, job_id)), None)


async def _held_script(commands: SlurmCommands, user: str, number: str) -> str | None:
    output = await commands.read(user, "scontrol", "write", "batch_script", number, "-", max_output=_MAX_SCRIPT)
    return output.decode(errors="replace") or None  # for a job without a script, scontrol reports that and exits with 0


async def _recorded_script(commands: SlurmCommands, user: str, number: str) -> str | None:
    """Return the script that the site stores with `AccountingStoreFlags=job_script`."""
    words = ("--batch-script", f"--jobs={number}")
    output = (await commands.read(user, "sacct", *words, max_output=_MAX_SCRIPT)).decode(errors="replace")
    match = re.match(r"Batch Script for \S+\n-+\n(.*)\Z", output, re.DOTALL)
    if match is None or match[1].strip() == "NONE":
        return None
    script = match[1].removesuffix("\n")  # sacct adds one in 22.05, but not in 24.11
    return script if script.endswith("\n") else f"{script}\n"
