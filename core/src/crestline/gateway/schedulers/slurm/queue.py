"""The jobs of slurmctld, listed by squeue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import TypeVar

from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.tables import (
    Layout,
    Pieces,
    Row,
    number,
    parse_exit,
    read_table,
    seconds,
    text,
)
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import JobNotFoundError, normalize_state
from crestline.wire.compute import JobInfo, JobStatus, JobTask, JobTime

T = TypeVar("T")

_LAYOUT = Layout("squeue", (
    "JobArrayID", "JobID", "State", "exit_code", "UserName", "GroupName", "Partition", "Cluster", "NumCPUs", "NumNodes",
    "NodeList", "PriorityLong", "SubmitTime", "StartTime", "EndTime", "TimeUsed", "TimeLimit", "Reason", "Name",
    "Account", "WorkDir",
))  # fmt: skip

_NO_STEPS: list[JobTask] = []
"""The steps of every job: squeue lists none."""

_INTERNED = 10_000
"""Maximum number of strings that all jobs of a list share."""


class SlurmQueue:
    """The whole queue as squeue lists it. Rows that have not changed since the last list are not parsed again."""

    def __init__(self, commands: SlurmCommands, timeout: float) -> None:
        self._commands = commands
        self._time_limit = TimeLimit(timeout)
        self._last: dict[str, CachedJob] = {}

    async def read(self, user: str) -> list[CachedJob]:
        """Return the jobs of all users, including those that ended in the last minutes (MinJobAge)."""
        return await _squeue(self._commands, user, None, _LAYOUT, None, self._convert, self._time_limit)

    def _convert(self, table: Iterable[Pieces]) -> list[CachedJob]:
        last, self._last = self._last, {}
        words: dict[str, str] = {}
        entries = []
        for pieces in table:
            fingerprint = hash(tuple(pieces))
            entry = last.get(pieces[0])
            if entry is None or entry.fingerprint != fingerprint:
                if not job_ids.is_job_id(pieces[0]):
                    continue
                entry = _entry(_LAYOUT.cells(pieces), words, fingerprint)
            entries.append(entry)
        self._last = {entry.job.job_id: entry for entry in entries}
        return entries


async def read_queue(
    commands: SlurmCommands, user: str, owner: str | None, ids: Collection[str] | None = None
) -> list[CachedJob]:
    """Return the jobs of `owner` (None: of all users), including those that ended in the last minutes (MinJobAge)."""
    return await _squeue(commands, user, owner, _LAYOUT, ids, _entries)


async def read_queue_fields(
    commands: SlurmCommands, user: str, owner: str | None, fields: tuple[str, ...], ids: Collection[str] | None = None
) -> list[Row]:
    """Return squeue's rows with these fields, for jobs in any state."""
    layout = Layout("squeue", fields)
    return await _squeue(commands, user, owner, layout, ids, layout.rows)


async def _squeue(
    commands: SlurmCommands,
    user: str,
    owner: str | None,
    layout: Layout,
    ids: Collection[str] | None,
    convert: Callable[[Iterable[Pieces]], list[T]],
    time_limit: TimeLimit | None = None,
) -> list[T]:
    arguments = ["--states=all", "--all"]
    if owner is not None:
        arguments.append(f"--user={owner}")
    if ids is not None:
        arguments.append(f"--jobs={','.join(sorted({job_ids.family(each) for each in ids}))}")
    try:
        return await read_table(commands, user, layout, *arguments, convert=convert, time_limit=time_limit)
    except JobNotFoundError:
        return []


def _entries(table: Iterable[Pieces]) -> list[CachedJob]:
    words: dict[str, str] = {}
    return [_entry(_LAYOUT.cells(pieces), words) for pieces in table if job_ids.is_job_id(pieces[0])]


@lru_cache(maxsize=1024)
def _waits_or_has_ended(state: str) -> tuple[bool, bool]:
    normal = normalize_state(state)
    return normal.is_waiting, normal.is_terminal


@lru_cache(maxsize=1024)
def _limit(cell: str) -> int | None:
    return seconds(cell)


def _entry(cells: list[str], words: dict[str, str], fingerprint: int = 0) -> CachedJob:
    """Convert a row to a job.

    Args:
        cells: cells in the order of `_LAYOUT`.
        words: strings that jobs of the list share, to store each once.
        fingerprint: fingerprint of the row.
    """
    if len(words) > _INTERNED:
        words.clear()
    (
        job_id, raw_id, state, exit_cell, user, group, partition, cluster, cpus, nodes, node_list, priority, submit,
        start, end, used, limit, reason, name, account, directory,
    ) = cells  # fmt: skip
    same = words.setdefault
    state = same(state, state)
    waiting, ended = _waits_or_has_ended(state)
    exit_code, signal = parse_exit(exit_cell)
    start_time = number(start)
    job = JobInfo(
        job_id=job_id,
        name=same(name, name),
        status=JobStatus(
            state=state,
            state_reason=same(reason, reason),
            exit_code=None if waiting else exit_code or 0,
            interrupt_signal=None if waiting else signal or 0,
        ),
        time=JobTime(
            elapsed=seconds(used),
            suspended=None if waiting or state == "SUSPENDED" else 0,  # squeue does not report the duration
            start=None if waiting else start_time,
            expected_start=start_time if waiting else None,
            end=number(end) if ended else None,
            limit=_limit(limit),
            submit=number(submit),
        ),
        tasks=_NO_STEPS,
        account=text(same(account, account)),
        allocation_nodes=number(nodes.partition("-")[0]) or 0,
        cluster=same(cluster, cluster),
        group=text(same(group, group)),
        nodes=text(node_list) or "",
        partition=same(partition, partition),
        user=text(same(user, user)),
        working_directory=text(same(directory, directory)) or "",
        priority=number(priority),
        cpus=number(cpus),
        raw_id=job_ids.raw_id(job_id, raw_id),
    )
    return CachedJob(job, "" if raw_id == job_id else raw_id, fingerprint)
