"""The jobs that slurmctld holds: squeue."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import TypeVar

from crestline.gateway.schedulers.job_book import Entry
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.tables import Row, number, parse_exit, read_table, seconds, text
from crestline.model import JobNotFoundError, normalize_state
from crestline.wire.compute import JobInfo, JobStatus, JobTime

T = TypeVar("T")

_FIELDS = (
    "JobArrayID", "JobID", "State", "exit_code", "Reason", "Name", "UserName", "GroupName", "Account", "Partition",
    "Cluster", "NumCPUs", "NumNodes", "NodeList", "WorkDir", "PriorityLong", "SubmitTime", "StartTime", "EndTime",
    "TimeUsed", "TimeLimit",
)  # fmt: skip


async def read_queue(
    commands: SlurmCommands, user: str, owner: str | None, ids: Collection[str] | None = None
) -> list[Entry]:
    """The jobs of `owner` (None: of all users), ended ones of the last minutes (MinJobAge) included."""
    return await _squeue(commands, user, owner, _FIELDS, ids, _entries)


async def read_queue_fields(
    commands: SlurmCommands, user: str, owner: str | None, fields: tuple[str, ...], ids: Collection[str] | None = None
) -> list[Row]:
    """Rows of squeue with these fields, whatever the state of the job."""
    return await _squeue(commands, user, owner, fields, ids, list)


async def _squeue(
    commands: SlurmCommands,
    user: str,
    owner: str | None,
    fields: tuple[str, ...],
    ids: Collection[str] | None,
    convert: Callable[[list[Row]], list[T]],
) -> list[T]:
    arguments = ["--states=all", "--all"]
    if owner is not None:
        arguments.append(f"--user={owner}")
    if ids is not None:
        arguments.append(f"--jobs={','.join(sorted({job_ids.family(each) for each in ids}))}")
    try:
        return await read_table(commands, user, "squeue", fields, *arguments, convert=convert)
    except JobNotFoundError:
        return []


def _entries(rows: list[Row]) -> list[Entry]:
    return [_entry(row) for row in rows if job_ids.is_job_id(row["JobArrayID"])]


@cache
def _waits_or_has_ended(state: str) -> tuple[bool, bool]:
    normal = normalize_state(state)
    return normal.is_waiting, normal.is_terminal


def _entry(row: Row) -> Entry:
    state = row["State"]
    waiting, ended = _waits_or_has_ended(state)
    exit_code, signal = parse_exit(row["exit_code"])
    job = JobInfo(
        job_id=row["JobArrayID"],
        name=row["Name"],
        status=JobStatus(
            state=state,
            state_reason=row["Reason"],
            exit_code=None if waiting else exit_code or 0,
            interrupt_signal=None if waiting else signal or 0,
        ),
        time=JobTime(
            elapsed=seconds(row["TimeUsed"]),
            suspended=None if waiting or state == "SUSPENDED" else 0,  # squeue does not tell how long
            start=None if waiting else number(row["StartTime"]),
            expected_start=number(row["StartTime"]) if waiting else None,
            end=number(row["EndTime"]) if ended else None,
            limit=seconds(row["TimeLimit"]),
            submit=number(row["SubmitTime"]),
        ),
        tasks=[],
        account=text(row["Account"]),
        allocation_nodes=number(row["NumNodes"].partition("-")[0]) or 0,
        cluster=row["Cluster"],
        group=text(row["GroupName"]),
        nodes=text(row["NodeList"]) or "",
        partition=row["Partition"],
        user=text(row["UserName"]),
        working_directory=text(row["WorkDir"]) or "",
        priority=number(row["PriorityLong"]),
        cpus=number(row["NumCPUs"]),
    )
    return Entry(job, row["JobID"])
