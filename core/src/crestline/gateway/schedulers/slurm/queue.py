"""The jobs that slurmctld holds: squeue."""

from __future__ import annotations

from collections.abc import Collection

from crestline.gateway.schedulers.job_book import Entry
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.tables import exit_and_signal, number, read_table, seconds, text
from crestline.model import JobNotFoundError, normalize_state
from crestline.wire.compute import JobInfo, JobStatus, JobTime

_FIELDS = (
    "JobArrayID", "JobID", "State", "exit_code", "Reason", "Name", "UserName", "GroupName", "Account", "Partition",
    "Cluster", "NumNodes", "NodeList", "WorkDir", "PriorityLong", "SubmitTime", "StartTime", "EndTime", "TimeUsed",
    "TimeLimit",
)  # fmt: skip


async def read_queue(
    commands: SlurmCommands, user: str, owner: str | None, ids: Collection[str] | None = None
) -> list[Entry]:
    """The jobs of `owner` (None: of everybody), ended ones of the last minutes (MinJobAge) included."""
    rows = await read_queue_fields(commands, user, owner, _FIELDS, ids)
    return [_entry(row) for row in rows if job_ids.is_job_id(row["JobArrayID"])]


async def read_queue_fields(
    commands: SlurmCommands, user: str, owner: str | None, fields: tuple[str, ...], ids: Collection[str] | None = None
) -> list[dict[str, str]]:
    """Rows of squeue with these fields, whatever the state of the job."""
    arguments = ["--states=all", "--all"]
    if owner is not None:
        arguments.append(f"--user={owner}")
    if ids is not None:
        arguments.append(f"--jobs={','.join(sorted({job_ids.family(each) for each in ids}))}")
    try:
        return await read_table(commands, user, "squeue", fields, *arguments)
    except JobNotFoundError:
        return []


def _entry(row: dict[str, str]) -> Entry:
    state = row["State"]
    normal = normalize_state(state)
    waiting, ended = normal.is_waiting, normal.is_terminal
    exit_code, signal = exit_and_signal(number(row["exit_code"]) or 0)
    job = JobInfo(
        job_id=row["JobArrayID"],
        name=row["Name"],
        status=JobStatus(
            state=state,
            state_reason=row["Reason"],
            exit_code=None if waiting else exit_code,
            interrupt_signal=None if waiting else signal,
        ),
        time=JobTime(
            elapsed=seconds(row["TimeUsed"]),
            start=None if waiting else number(row["StartTime"]),  # of a waiting job, what the scheduler expects
            end=number(row["EndTime"]) if ended else None,
            limit=seconds(row["TimeLimit"]),
            submit=number(row["SubmitTime"]),
        ),
        account=text(row["Account"]),
        allocation_nodes=number(row["NumNodes"].partition("-")[0]) or 0,
        cluster=row["Cluster"],
        group=text(row["GroupName"]),
        nodes=text(row["NodeList"]) or "",
        partition=row["Partition"],
        user=text(row["UserName"]),
        working_directory=text(row["WorkDir"]) or "",
        priority=number(row["PriorityLong"]),
    )
    return Entry(job, row["JobID"])
