"""Resource usage of jobs: sacct, and sstat while they run, if Slurm gathers it (`JobAcctGatherType`)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.tables import Row, number, read_rows, seconds
from crestline.model import CrestlineError, JobState, normalize_state
from crestline.wire.compute import JobInfo
from crestline.wire.extensions import JobUsageInfo

_log = logging.getLogger(__name__)

_FIELDS = ("JobID", "ElapsedRaw", "AllocCPUS", "TotalCPU", "AllocTRES", "TRESUsageInTot")
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([KMGTP]?)", re.ASCII)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


async def read_usage(commands: SlurmCommands, user: str, jobs: list[JobInfo]) -> list[JobUsageInfo]:
    """Return the usage of one job of `user`, or of each task of an array; None if none was gathered.

    Raises:
        GatewayUnavailableError: Slurm does not respond.
    """
    array = job_ids.family(jobs[0].job_id)
    rows = await read_rows(commands, user, "sacct", _FIELDS, f"--jobs={array}")
    running = {
        job.raw_id or job.job_id: job.job_id for job in jobs if normalize_state(job.status.state) is JobState.RUNNING
    }
    live = await _running(commands, user, running) if running else []
    return [usage_of(job, rows, live) for job in jobs]


def usage_of(job: JobInfo, rows: Iterable[Row], live: Iterable[Row] = ()) -> JobUsageInfo:
    """Compute the usage of a job from its own row of sacct, those of its steps, and those of sstat."""
    own: Row = next((row for row in rows if row["JobID"] == job.job_id), {})
    steps = [row for row in (*rows, *live) if row["JobID"].partition(".")[0] == job.job_id and "." in row["JobID"]]
    held = _amounts(own.get("AllocTRES", ""))
    used: dict[str, dict[str, float]] = {}
    for row in steps:
        amounts = _amounts(row["TRESUsageInTot"])
        before = used.setdefault(row["JobID"], {})
        used[row["JobID"]] = {unit: max(before.get(unit, 0), amounts.get(unit, 0)) for unit in {*before, *amounts}}
    peaks = [each["mem"] for each in used.values() if "mem" in each]
    busy = [each["gres/gpuutil"] for each in used.values() if "gres/gpuutil" in each]
    spent = max(float(seconds(own.get("TotalCPU", "")) or 0), sum(each.get("cpu", 0) for each in used.values()))
    gpus = held.get("gres/gpu")
    return JobUsageInfo(
        job_id=job.job_id,
        elapsed=number(own["ElapsedRaw"]) if own else job.time.elapsed,  # accounting lags behind
        cpus=number(own["AllocCPUS"]) if own else job.cpus,
        cpu_seconds=spent if spent or any("cpu" in each for each in used.values()) else None,
        memory=int(max(peaks)) if peaks else None,
        memory_limit=int(held["mem"]) if "mem" in held else None,
        gpus=int(gpus) if gpus else None,
        gpu_use=max(busy) / 100 if busy and gpus else None,
    )


async def _running(commands: SlurmCommands, user: str, names: dict[str, str]) -> list[Row]:
    """Return the steps of running jobs, whose names are given by Slurm's own ids; none if sstat fails."""
    try:
        output = await commands.read(
            user, "sstat", "--noheader", "--parsable2", "--allsteps", f"--jobs={','.join(names)}",
            "--format=JobID,TRESUsageInTot",
        )  # fmt: skip
    except CrestlineError as error:  # the job has no step, or the site has no sstat: use sacct's rows only
        _log.info("sstat of jobs %s: %s %s", list(names), error, list(error.details))
        return []
    rows = []
    for line in output.decode(errors="replace").splitlines():
        step, _, used = line.partition("|")
        job_id, _, name = step.partition(".")
        rows.append({"JobID": f"{names.get(job_id, job_id)}.{name}", "TRESUsageInTot": used})
    return rows


def _amounts(cell: str) -> dict[str, float]:
    """Parse `cpu=00:01:07,mem=1340K,gres/gpu=2` to seconds, bytes and numbers. Other values are left out."""
    found: dict[str, float] = {}
    for pair in cell.split(","):
        unit, _, value = pair.partition("=")
        if (span := seconds(value)) is not None:
            found[unit] = span
        elif (amount := _AMOUNT.fullmatch(value.strip())) is not None:
            found[unit] = float(amount[1]) * 1024 ** _UNITS[amount[2]]
    return found
