"""slurmrestd's jobs: v0.0.38 and .39 have plain numbers and strings, later versions wrap numbers and list states."""

from __future__ import annotations

import time

import msgspec

from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.tables import exit_and_signal
from crestline.model import normalize_state
from crestline.wire.compute import JobInfo, JobStatus, JobTime

_PASSING = ("COMPLETING", "CONFIGURING", "REQUEUE_HOLD", "REQUEUE_FED", "REQUEUED", "SPECIAL_EXIT", "STAGE_OUT")
"""Additional states that squeue shows in place of a job's own."""


class Wrapped(msgspec.Struct):
    """A number as slurmrestd writes it since v0.0.39, with flags for unset and infinite."""

    number: int = 0
    is_set: bool = msgspec.field(default=True, name="set")
    infinite: bool = False


Number = int | Wrapped | None


class Signal(msgspec.Struct):
    """The signal that ended a job."""

    id: Number = None


class Ending(msgspec.Struct):
    """An exit code since v0.0.40."""

    return_code: Number = None
    signal: Signal | None = None


class SlurmJob(msgspec.Struct):
    """The used fields of a job. Times are in seconds since the epoch, the limit in minutes."""

    job_id: int
    job_state: str | list[str]
    name: str | None = ""
    state_reason: str | None = None
    user_name: str | None = None
    group_name: str | None = None
    account: str | None = None
    partition: str | None = None
    cluster: str | None = None
    current_working_directory: str | None = None
    nodes: str | None = None
    array_job_id: Number = None
    array_task_id: Number = None
    array_task_string: str | None = None
    het_job_id: Number = None
    het_job_offset: Number = None
    node_count: Number = None
    cpus: Number = None
    priority: Number = None
    submit_time: Number = None
    start_time: Number = None
    end_time: Number = None
    time_limit: Number = None
    exit_code: int | dict[str, object] | None = None

    @property
    def family(self) -> str:
        """The number of the whole array or heterogeneous job."""
        return str(_number(self.het_job_id) or _number(self.array_job_id) or self.job_id)

    @property
    def listed_id(self) -> str:
        """The id in squeue's format: `12_3`, `12_[4-9%2]`, `12+1`."""
        if _number(self.het_job_id):
            return f"{self.family}+{_number(self.het_job_offset) or 0}"
        if _number(self.array_job_id):
            if self.array_task_string:
                return f"{self.family}_[{self.array_task_string}]"
            if (task := _number(self.array_task_id)) is not None:
                return f"{self.family}_{task}"
        return str(self.job_id)


class JobsDocument(msgspec.Struct):
    """`GET /slurm/v0.0.N/jobs` and `.../job/{id}`."""

    jobs: list[SlurmJob]


def is_cut_short(job: SlurmJob) -> bool:
    """Whether it lists pending tasks of an array incompletely (`1,3,5,...`)."""
    return "..." in (job.array_task_string or "")


def entries_of(jobs: list[SlurmJob]) -> list[CachedJob]:
    """Convert the jobs to entries of a `JobCache`."""
    return [_entry(job) for job in jobs if job_ids.is_job_id(job.listed_id)]


def _entry(job: SlurmJob) -> CachedJob:
    state = _state(job.job_state)
    normal = normalize_state(state)
    exit_code, signal = _ending(job.exit_code)
    start = None if normal.is_waiting else _number(job.start_time) or None
    end = _number(job.end_time) or None if normal.is_terminal else None
    minutes = _number(job.time_limit)
    info = JobInfo(
        job_id=job.listed_id,
        name=job.name or "",
        status=JobStatus(
            state=state,
            state_reason=job.state_reason,
            exit_code=None if normal.is_waiting else exit_code,
            interrupt_signal=None if normal.is_waiting else signal,
        ),
        time=JobTime(
            elapsed=max(0, (end or int(time.time())) - start) if start else 0,
            start=start,
            # slurmrestd does not report the duration
            suspended=None if normal.is_waiting or state == "SUSPENDED" else 0,
            expected_start=_number(job.start_time) or None if normal.is_waiting else None,
            end=end,
            limit=None if minutes is None else minutes * 60,
            submit=_number(job.submit_time),
        ),
        tasks=[],
        account=job.account or None,
        allocation_nodes=_number(job.node_count) or 0,
        cluster=job.cluster or "",
        group=job.group_name or None,
        nodes=job.nodes or "",
        partition=job.partition or "",
        user=job.user_name or None,
        working_directory=job.current_working_directory or "",
        priority=_number(job.priority),
        cpus=_number(job.cpus),
        raw_id=job_ids.raw_id(job.listed_id, str(job.job_id)),
    )
    return CachedJob(info, str(job.job_id))


def _number(value: Number) -> int | None:
    if isinstance(value, Wrapped):
        return value.number if value.is_set and not value.infinite else None
    return value


def _state(value: str | list[str]) -> str:
    if isinstance(value, str):
        return value
    return next((each for each in _PASSING if each in value), value[0] if value else "UNKNOWN")


def _ending(value: int | dict[str, object] | None) -> tuple[int, int]:
    """Return exit code and signal."""
    if isinstance(value, dict):
        if "number" in value:  # v0.0.39: a wait status, wrapped
            return exit_and_signal(_number(msgspec.convert(value, Wrapped)) or 0)
        ending = msgspec.convert(value, Ending)
        return _number(ending.return_code) or 0, _number(ending.signal.id) or 0 if ending.signal else 0
    return exit_and_signal(value or 0)
