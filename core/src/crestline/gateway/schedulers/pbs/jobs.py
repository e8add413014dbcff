"""Converts jobs from qstat's output to FirecREST's format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.wire.compute import JobInfo, JobMetadata, JobStatus, JobTime

KEY_VARIABLE = "CRESTLINE_SUBMISSION"
"""Variable of the job's environment with the key of its submission."""

_ID = re.compile(r"(?P<number>\d{1,12})(?P<index>\[\d{0,9}\])?(?P<server>\.[A-Za-z0-9_][A-Za-z0-9_.-]*)?", re.ASCII)
_DELETED = ("91",)
"""Values of `substate`: ended by qdel."""


def is_job_id(text: str) -> bool:
    """Whether the text is a job id and nothing else, so that it is a safe argument for PBS's programs."""
    return _ID.fullmatch(text) is not None


def full_id(text: str, server: str) -> str:
    """Expand `12` to `12.server` and `12[3]` to `12[3].server`."""
    return text if "." in text else f"{text}.{server}"


def family(job_id: str) -> str:
    """Return the id of the array, `12[].server` for `12[3].server`, or the id itself."""
    return re.sub(r"\[\d+\]", "[]", job_id)


def order(job_id: str) -> tuple[int, ...]:
    """Sort key of an id: its number, then its index."""
    return tuple(int(part) for part in re.findall(r"\d{1,18}", job_id.partition(".")[0])[:2])


def entries_of(jobs: Mapping[str, Mapping[str, Any]]) -> list[CachedJob]:
    """Return jobs, and the elements of arrays that PBS lists."""
    with_elements = {family(job_id) for job_id in jobs if family(job_id) != job_id}
    return [
        _entry(job_id, values) for job_id, values in jobs.items() if is_job_id(job_id) and job_id not in with_elements
    ]


def job_metadata(job_id: str, values: Mapping[str, Any]) -> JobMetadata:
    """Return the paths of a job's output. PBS does not return scripts."""
    index = text(values, "array_index") or ""
    return JobMetadata(
        job_id=job_id,
        script=None,
        standard_input="/dev/null",
        standard_output=_path(text(values, "Output_Path"), index),
        standard_error=_path(text(values, "Error_Path"), index),
    )


def owner(values: Mapping[str, Any]) -> str:
    """Return the POSIX user, `alice` of `alice@host`."""
    return (text(values, "Job_Owner") or "").partition("@")[0]


def key_of(values: Mapping[str, Any]) -> str | None:
    """Return the key of its submission in the job's environment, or None."""
    variables = values.get("Variable_List")
    return text(variables, KEY_VARIABLE) if isinstance(variables, dict) else None


def text(values: Mapping[str, Any], name: str) -> str | None:
    """Return an attribute that is text, or None."""
    value = values.get(name)
    return value if isinstance(value, str) and value else None


def epoch(words: str | None) -> int | None:
    """Convert `Sat Nov 21 22:33:17 2026` (UTC), or a number of seconds, to seconds since the epoch."""
    if words is None:
        return None
    if re.fullmatch(r"\d{1,18}", words, re.ASCII):
        return int(words)
    try:
        return int(datetime.strptime(words, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _entry(job_id: str, values: Mapping[str, Any]) -> CachedJob:
    state = text(values, "job_state") or "U"
    exit_code, signal = _exit(values)
    ended = state in ("F", "X")
    asked, used = resources(values, "Resource_List"), resources(values, "resources_used")
    start = epoch(text(values, "stime"))
    elapsed = _seconds(text(used, "walltime"))
    end = None
    if ended:
        end = epoch(text(values, "obittime")) or epoch(text(values, "mtime"))
    hosts = list(dict.fromkeys(re.findall(r"(?:^|\+)([^/+]+)", text(values, "exec_host") or "")))
    project = text(values, "project")
    job = JobInfo(
        job_id=job_id,
        name=text(values, "Job_Name") or "",
        status=JobStatus(
            state=state, state_reason=text(values, "comment"), exit_code=exit_code, interrupt_signal=signal
        ),
        time=JobTime(
            elapsed=elapsed,
            start=start,
            end=end,
            limit=_seconds(text(asked, "walltime")),
            submit=epoch(text(values, "ctime")),
        ),
        account=text(values, "Account_Name") if project in (None, "_pbs_project_default") else project,
        allocation_nodes=_count(text(asked, "nodect")) or len(hosts),
        cluster=text(values, "server") or "",
        group=text(values, "egroup"),
        nodes=",".join(hosts),
        partition=text(values, "queue") or "",
        user=owner(values),
        working_directory=_directory(values),
        priority=_count(text(values, "Priority")),
    )
    return CachedJob(job, job_id.partition(".")[0])


def _exit(values: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return exit status and signal. PBS adds 256 to a signal. A job that qdel removed from the queue has neither."""
    status = _count(text(values, "Exit_status"))
    if status is None:
        return (256 + 15, 15) if text(values, "substate") in _DELETED else (None, None)
    return status, status - 256 if status > 256 else 0


def resources(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the attributes below an attribute, or an empty mapping if it is not a mapping."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _directory(values: Mapping[str, Any]) -> str:
    variables = values.get("Variable_List")
    if isinstance(variables, dict):
        return text(variables, "PBS_O_WORKDIR") or ""
    match = re.search(r"(?:^|,)PBS_O_WORKDIR=([^,]*)", variables if isinstance(variables, str) else "")
    return match[1] if match else ""


def _path(where: str | None, index: str) -> str | None:
    """Return the path of `host:/path`, with the placeholder of an array replaced."""
    if where is None:
        return None
    path = where.partition(":")[2] if re.match(r"[^/:]*:", where) else where
    return path.replace("^array_index^", index) if index else path


def _seconds(words: str | None) -> int | None:
    match = re.fullmatch(r"(?:(\d{1,9}):)?(?:(\d{1,9}):)?(\d{1,12})(?:\.\d+)?", words or "", re.ASCII)
    if match is None:
        return None
    numbers = [int(part) for part in match.groups() if part is not None]
    return sum(number * unit for number, unit in zip(reversed(numbers), (1, 60, 3600), strict=False))


def _count(words: str | None) -> int | None:
    return int(words) if words is not None and re.fullmatch(r"-?\d{1,18}", words, re.ASCII) else None
