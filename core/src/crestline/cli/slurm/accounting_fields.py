"""The columns of sacct."""

from __future__ import annotations

from crestline.cli.slurm.layout import Wide
from crestline.cli.slurm.queue_fields import job_name, raw_id, reason
from crestline.cli.slurm.states import state_of
from crestline.cli.slurm.times import long_duration, moment
from crestline.model import Job


def _state(job: Job) -> str:
    return job.raw_state if job.raw_state.startswith("CANCELLED by") else state_of(job)


def _exit(job: Job) -> str:
    return f"{job.exit_code or 0}:{job.signal or 0}"


def _limit(job: Job) -> str:
    return long_duration(job.times.limit) if job.times.limit else "UNLIMITED"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _elapsed(job: Job) -> int:
    return 0 if job.state.is_waiting else job.times.elapsed or 0


def _untold(_: Job) -> str:
    return ""


_ALL: tuple[Wide[Job], ...] = (
    Wide("Account", lambda job: job.account),
    Wide("AllocCPUS", lambda job: "0" if job.state.is_waiting else _number(job.cpus)),
    Wide("AllocNodes", lambda job: str(0 if job.state.is_waiting else job.node_count or 0)),
    Wide("AllocTRES", _untold, is_reported=False),
    Wide("Cluster", lambda job: job.cluster),
    Wide("Comment", _untold, 14, is_reported=False),
    Wide("DerivedExitCode", _untold, 15, is_reported=False),
    Wide("Elapsed", lambda job: long_duration(_elapsed(job))),
    Wide("ElapsedRaw", lambda job: str(_elapsed(job))),
    Wide("Eligible", _untold, 19, is_reported=False),
    Wide("End", lambda job: moment(job.times.end, "Unknown"), 19),
    Wide("ExitCode", _exit, 8),
    Wide("Group", lambda job: job.group, 9),
    Wide("JobID", lambda job: job.job_id, 12, left=True),
    Wide("JobIDRaw", raw_id, 12, left=True),
    Wide("JobName", job_name),
    Wide("MaxRSS", _untold, is_reported=False),
    Wide("MaxVMSize", _untold, is_reported=False),
    Wide("NCPUS", lambda job: "0" if job.state.is_waiting else _number(job.cpus)),
    Wide("NNodes", lambda job: str(job.node_count or 1), 8),
    Wide("NodeList", lambda job: job.nodes or "None assigned", 15),
    Wide("NTasks", _untold, 8, is_reported=False),
    Wide("Partition", lambda job: job.partition),
    Wide("Priority", lambda job: _number(job.priority)),
    Wide("QOS", _untold, is_reported=False),
    Wide("Reason", reason, 22),
    Wide("ReqCPUS", lambda job: _number(job.cpus), 8),
    Wide("ReqMem", _untold, is_reported=False),
    Wide("ReqTRES", _untold, is_reported=False),
    Wide("Reservation", _untold, 20, is_reported=False),
    Wide("Start", lambda job: moment(job.times.start, "Unknown"), 19),
    Wide("State", _state),
    Wide("Submit", lambda job: moment(job.times.submit, "Unknown"), 19),
    Wide("SubmitLine", _untold, 20, is_reported=False),
    Wide("Suspended", lambda job: long_duration(job.times.suspended or 0)),
    Wide("Timelimit", _limit),
    Wide("TimelimitRaw", lambda job: _number(job.times.limit // 60 if job.times.limit else None), 12),
    Wide("TotalCPU", _untold, is_reported=False),
    Wide("User", lambda job: job.user, 9),
    Wide("WorkDir", lambda job: job.workdir, 20),
)

FIELDS = {field.head.lower(): field for field in _ALL}
"""Fields by their names in lower case. A field that the API does not report is empty, as an unset one is in Slurm."""
