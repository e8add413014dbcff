"""FirecREST's representation of a job, with the delays and distortions of Slurm's accounting.

Shapes as recorded from FirecREST v2 on Slurm 22.05 (shapes/job_*.json).
"""

from __future__ import annotations

import re
import time
from typing import Any

from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.job import Job
from crestline.testing.firecrest.refusals import Refusal
from crestline.testing.firecrest.settings import Settings

_TOP_PRIORITY = 4294901759


def row(job: Job, faults: Faults, settings: Settings) -> dict[str, Any] | None:
    """Return the `Job` object of a response, or None while the job is not visible yet. Times are in seconds."""
    now = time.time()
    age = now - job.submitted
    if age < faults.fresh_job_404:
        return None
    nameless = age < faults.allocation_window
    state = job.shown_state or job.state
    if nameless or _is_stale(job, faults, now):
        state = "PENDING"
    waits = state == "PENDING"
    started = None if waits else job.started
    ended = None if waits or not job.is_over else job.ended
    elapsed = int((ended or now) - started) if started is not None else 0
    return {
        "jobId": job.id,
        "name": "allocation" if nameless else shown_name(job.name, faults),
        "status": {
            "state": state,
            "stateReason": job.reason if waits and job.state == "PENDING" else "None",
            "exitCode": None if waits else job.exit_code,
            "interruptSignal": None if waits else job.signal,
        },
        "tasks": [] if started is None else [_batch_step(job, state, started, ended, elapsed)],
        "time": {
            "elapsed": elapsed,
            "start": _whole(started),
            "end": _whole(ended),
            "suspended": None if waits else 0,
            "limit": job.time_limit,
        },
        "account": job.account,
        "allocationNodes": 1,
        "cluster": settings.system,
        "group": job.user.name,
        "nodes": "" if waits else (job.node or "None assigned"),
        "partition": job.partition,
        "killRequestUser": None,
        "user": job.user.name,
        "workingDirectory": "" if nameless else str(job.workdir),
        "priority": _TOP_PRIORITY - job.number,
    }


def rows(jobs: list[Job], faults: Faults, settings: Settings) -> list[dict[str, Any]]:
    """Return the rows of these jobs in a list or a look-up: sacct's rows, followed by those of squeue.

    The pending tasks of an array share one row, `12_[1-3]`.
    """
    found: list[dict[str, Any]] = []
    queued: list[dict[str, Any]] = []
    waiting_arrays: dict[int, dict[str, Any]] = {}
    waiting_tasks: dict[int, list[int]] = {}
    for job in jobs:
        line = row(job, faults, settings)
        if line is None:
            continue
        if job.started is not None and time.time() - job.started < faults.accounting_lag:
            found += _lagging(job, line)
            continue
        if job.array_id is not None and job.task is not None:
            if job.started is None and not job.restarts:  # includes those that were cancelled before they started
                waiting_tasks.setdefault(job.array_id, []).append(job.task)
                if job.array_id in waiting_arrays:
                    continue
                waiting_arrays[job.array_id] = line
                if not job.is_over:
                    queued.append(_of_squeue(line, job.array_id))
            elif not job.is_over:
                queued.append(_of_squeue(line, job.number))
        found.append(line)
    for array_id, line in waiting_arrays.items():
        line["jobId"] = f"{array_id}_[{_ranges(waiting_tasks[array_id])}]"
    return found + queued if faults.array_rows_doubled else found


def listing(jobs: list[Job], faults: Faults, settings: Settings) -> list[dict[str, Any]]:
    """Return the list of jobs, without those that a fault omits."""
    return rows([job for job in jobs if not _is_omitted(job, faults)], faults, settings)


def metadata(job: Job, faults: Faults, reader: str) -> dict[str, Any]:
    """Return the `JobMetadata` object of a response. Only the owner of the job gets the script."""
    return {
        "jobId": str(job.number) if faults.array_metadata_is_one else job.id,
        "script": job.script if job.user.name == reader else "",
        "standardInput": job.stdin,
        "standardOutput": str(job.stdout),
        "standardError": str(job.stderr),
    }


def shown_name(name: str, faults: Faults) -> str:
    """Return a job's name as distorted by the accounting."""
    if not faults.names_mangled:
        return name
    return re.sub(r"[^\x00-\x7f]", "?", name.replace('"', "`"))


def check_parsable(jobs: list[Job], faults: Faults) -> None:
    """Raise the 500 of a parser that splits lines at `|`, if a name contains one."""
    if faults.pipe_in_name_breaks_list and any("|" in job.name or "\n" in job.name for job in jobs):
        raise Refusal(500, "Error executing Slurm command.")


def _batch_step(job: Job, state: str, started: float, ended: float | None, elapsed: int) -> dict[str, Any]:
    killed = state.startswith("CANCELLED") or state == "TIMEOUT"
    return {
        "id": f"{job.id}.batch",
        "name": "batch",
        "status": {
            "state": "CANCELLED" if killed else state,
            "stateReason": None,
            "exitCode": job.exit_code,
            "interruptSignal": 15 if killed else job.signal,
        },
        "time": {
            "elapsed": elapsed,
            "start": _whole(started),
            "end": _whole(ended),
            "suspended": 0,
            "limit": None,
        },
    }


def _lagging(job: Job, line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a job whose name the accounting does not know yet."""
    if job.array_id in (None, job.number):
        state = {} if job.is_over else {"state": "PENDING", "exitCode": 0, "interruptSignal": 0}
        status = line["status"] | state
        return [line | {"jobId": str(job.number), "name": "allocation", "workingDirectory": "", "status": status}]
    return [] if job.is_over else [_of_squeue(line, job.number)]


def _of_squeue(line: dict[str, Any], number: int) -> dict[str, Any]:
    status = line["status"] | {"exitCode": None, "interruptSignal": None}
    return line | {"jobId": str(number), "status": status, "tasks": []}


def _is_stale(job: Job, faults: Faults, now: float) -> bool:
    return job.started is not None and not job.is_over and now - job.started < faults.stale_pending


def _is_omitted(job: Job, faults: Faults) -> bool:
    if faults.list_omits_dependent and job.dependency:
        return True
    if job.ended is not None and time.time() - job.ended < faults.list_loses_ended:
        return True
    pattern = faults.list_omits
    return bool(pattern) and bool(re.fullmatch(pattern, job.id) or re.fullmatch(pattern, job.name))


def _ranges(tasks: list[int]) -> str:
    parts: list[list[int]] = []
    for task in sorted(tasks):
        if parts and task == parts[-1][-1] + 1:
            parts[-1][1:] = [task]
        else:
            parts.append([task])
    return ",".join("-".join(map(str, part)) for part in parts)


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
