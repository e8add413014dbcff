"""Jobs in FirecREST's format."""

from __future__ import annotations

import grp
import os
import pwd
import time
from functools import cache

from crestline.gateway.schedulers.local.jobs import LAUNCHED, PENDING, Job
from crestline.gateway.schedulers.local.streams import stream_paths
from crestline.gateway.schedulers.local.supervisor.records import Usage
from crestline.model.hostlist import compress
from crestline.wire.compute import JobInfo, JobMetadata, JobStatus, JobTask, JobTime
from crestline.wire.extensions import JobUsageInfo

_HIGHEST_PRIORITY = 2**32 - 2


def job_info(job: Job, cluster: str, now: float | None = None) -> JobInfo:
    """Return the job as of `now` (seconds since the epoch)."""
    now = time.time() if now is None else now
    return JobInfo(
        job_id=job.name,
        name=job.request.name,
        status=_status(job),
        time=_time(job, now),
        tasks=_steps(job, now),
        account=job.request.account,
        allocation_nodes=len(job.allocation) or job.request.resources.nodes or 1,
        cluster=cluster,
        group=_group(),
        nodes=compress(job.allocation),
        partition=job.request.partition,
        kill_request_user=job.cancelled_by,
        user=job.user,
        working_directory=job.request.directory,
        priority=max(_HIGHEST_PRIORITY - job.id, 1),
        cpus=_cpus(job),
    )


def job_metadata(job: Job, script: str) -> JobMetadata:
    """Return the script and the paths of its streams."""
    stdin, stdout, stderr = stream_paths(job)
    return JobMetadata(
        job_id=job.name, script=script, standard_input=stdin, standard_output=stdout, standard_error=stderr
    )


def job_usage(job: Job, used: Usage | None) -> JobUsageInfo:
    """Return the resource usage of a job. The memory is that of its largest process."""
    ran = _time(job, time.time())
    memory = sum(share.memory for share in job.allocation.values()) * 1024 * 1024
    return JobUsageInfo(
        job_id=job.name,
        elapsed=ran.elapsed if job.start is not None else None,
        cpus=_cpus(job),
        cpu_seconds=used["cpu_seconds"] if used else None,
        memory=used["memory"] if used else None,
        memory_limit=memory or None,
    )


def _status(job: Job) -> JobStatus:
    if job.state in (PENDING, LAUNCHED):
        return JobStatus(state=PENDING, state_reason=job.reason)
    state = f"CANCELLED by {_uid(job.cancelled_by)}" if job.state == "CANCELLED" and job.cancelled_by else job.state
    return JobStatus(
        state=state, state_reason=job.reason, exit_code=job.exit_code or 0, interrupt_signal=job.signal or 0
    )


def _time(job: Job, now: float) -> JobTime:
    suspended = job.suspended + (now - job.suspended_since if job.suspended_since is not None else 0)
    ran = max((job.end or now) - job.start - suspended, 0) if job.start is not None else 0
    return JobTime(
        elapsed=int(ran),
        start=_second(job.start),
        end=_second(job.end),
        suspended=int(suspended) if job.start is not None else None,
        limit=job.request.time_limit,
        submit=int(job.submit),
    )


def _cpus(job: Job) -> int:
    if job.allocation:
        return sum(share.cpus for share in job.allocation.values())
    return job.request.resources.tasks * job.request.resources.cpus_per_task


def _steps(job: Job, now: float) -> list[JobTask]:
    if job.start is None:
        return []
    batch_time = _time(job, now)
    batch_time.limit = batch_time.submit = None
    batch_state = job.state if job.state != "TIMEOUT" else "CANCELLED"
    steps = [
        JobTask(
            id=f"{job.name}.batch",
            name="batch",
            status=JobStatus(state=batch_state, exit_code=job.exit_code or 0, interrupt_signal=job.signal or 0),
            time=batch_time,
        )
    ]
    for step in job.steps:
        steps.append(
            JobTask(
                id=f"{job.name}.{step.id}",
                name=step.name,
                status=JobStatus(state=step.state, exit_code=step.exit_code or 0, interrupt_signal=step.signal or 0),
                time=JobTime(
                    elapsed=int(max((step.end or now) - step.start, 0)),
                    start=int(step.start),
                    end=_second(step.end),
                    suspended=0,
                ),
            )
        )
    return steps


def _second(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


@cache
def _group() -> str:
    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())


@cache
def _uid(user: str | None) -> int:
    try:
        return pwd.getpwnam(user or "").pw_uid
    except KeyError:
        return os.getuid()
