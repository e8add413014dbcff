"""The jobs that slurmdbd has recorded, listed by sacct."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.tables import Layout, Pieces, Row, number, parse_exit, read_table, seconds, text
from crestline.wire.compute import JobInfo, JobStatus, JobTask, JobTime

_FIELDS = (
    "JobID", "JobIDRaw", "State", "ExitCode", "Reason", "JobName", "User", "Group", "Account", "Partition", "Cluster",
    "ReqCPUS", "AllocCPUS", "NNodes", "NodeList", "WorkDir", "Priority", "Submit", "Start", "End", "ElapsedRaw",
    "Suspended", "TimelimitRaw", "SubmitLine",
)  # fmt: skip

_LAYOUT = Layout("sacct", _FIELDS)

_AT_ONCE = 1000
"""Maximum number of ids in one call."""


async def read_accounting(commands: SlurmCommands, user: str, ids: Collection[str]) -> list[CachedJob]:
    """Return the records of these jobs, regardless of their age. The id of an array selects all its tasks."""
    wanted = sorted({job_ids.family(each) if "[" in each or "+" in each else each for each in ids})
    entries: list[CachedJob] = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = ",".join(wanted[start : start + _AT_ONCE])
        entries += await read_table(commands, user, _LAYOUT, f"--jobs={some}", convert=_convert)
    return entries


async def read_history(commands: SlurmCommands, user: str, owner: str | None, since: float) -> list[CachedJob]:
    """Return the jobs of `owner` (None: of all users) that were active after `since` (seconds since the epoch)."""
    whose = "--allusers" if owner is None else f"--user={owner}"
    age = max(round(time.time() - since), 1)
    span = [f"--starttime=now-{age}seconds", "--endtime=now"]
    return await read_table(commands, user, _LAYOUT, whose, *span, convert=_convert)


def _convert(table: Iterable[Pieces]) -> list[CachedJob]:
    return jobs_of(_LAYOUT.rows(table))


def jobs_of(rows: list[Row]) -> list[CachedJob]:
    """Convert sacct's rows to jobs with their steps."""
    found: dict[str, CachedJob] = {}
    for row in rows:
        job_id, dot, _ = row["JobID"].partition(".")
        if not job_ids.is_job_id(job_id) or _is_half(row):
            continue
        if not dot:
            found[job_id] = _entry(row)
        elif (entry := found.get(job_id) or found.get(f"{job_id}+0")) is not None:  # sacct lists steps after their job
            entry.job.tasks = [*(entry.job.tasks or []), _step(row)]
    return list(found.values())


def _entry(row: Row) -> CachedJob:
    start = number(row["Start"])
    minutes = number(row["TimelimitRaw"])
    status, time_ = _status(row), _time(row)
    status.state_reason = row["Reason"]
    time_.submit = number(row["Submit"])
    time_.limit = minutes * 60 if minutes is not None else None
    job = JobInfo(
        job_id=row["JobID"],
        name=_name(row),
        status=status,
        time=time_,
        tasks=[],
        account=text(row["Account"]),
        allocation_nodes=number(row["NNodes"]) or 0,
        cluster=row["Cluster"],
        group=text(row["Group"]),
        nodes=row["NodeList"] if start is not None and row["NodeList"] != "None assigned" else "",
        partition=row["Partition"],
        user=text(row["User"]),
        working_directory=row["WorkDir"],
        priority=number(row["Priority"]),
        cpus=number(row["AllocCPUS"]) or number(row["ReqCPUS"]),
        raw_id=job_ids.raw_id(row["JobID"], row["JobIDRaw"]),
    )
    return CachedJob(job, row["JobIDRaw"])


def _step(row: Row) -> JobTask:
    return JobTask(id=row["JobID"], name=row["JobName"], status=_status(row), time=_time(row))


def _status(row: Row) -> JobStatus:
    exit_code, signal = parse_exit(row["ExitCode"])
    return JobStatus(state=row["State"], exit_code=exit_code, interrupt_signal=signal)


def _time(row: Row) -> JobTime:
    return JobTime(
        elapsed=number(row["ElapsedRaw"]),
        start=number(row["Start"]),
        end=number(row["End"]),
        suspended=seconds(row["Suspended"]),
    )


def _is_half(row: Row) -> bool:
    """Whether a step was recorded before its job, whose name and id are then placeholders."""
    return row["JobName"] == "allocation" and not row["WorkDir"]


def _name(row: Row) -> str:
    name = row["JobName"]
    if "`" in name:  # slurmdbd writes a backtick for a double quote; the command line has the original
        _, option, rest = row["SubmitLine"].partition("--job-name=")
        if option and (meant := rest[: len(name)]).replace('"', "`") == name:
            return meant
    return name
