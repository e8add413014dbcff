"""Jobs as an IRI facility reports them, in the model's words."""

from __future__ import annotations

import re
from typing import Any

from crestline.model import Job, JobState, JobTimes
from crestline.model.state import normalize_state
from crestline.model.text import printable
from crestline.wire.iri import Job as IriJob
from crestline.wire.iri import JobAttributes, JobSpec, JobStatus, State

_STATES = {
    State.NEW: JobState.SUBMITTED,
    State.QUEUED: JobState.PENDING,
    State.HELD: JobState.PENDING,
    State.ACTIVE: JobState.RUNNING,
    State.COMPLETED: JobState.COMPLETED,
    State.FAILED: JobState.FAILED,
    State.CANCELED: JobState.CANCELLED,
    "cancelled": JobState.CANCELLED,
}
_PRECISE = {
    JobState.SUBMITTED: {JobState.CONFIGURING},
    JobState.PENDING: {JobState.CONFIGURING},
    JobState.RUNNING: {JobState.SUSPENDED, JobState.COMPLETING, JobState.CONFIGURING},
    JobState.FAILED: {
        JobState.TIMEOUT,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
        JobState.CANCELLED,
    },
    JobState.CANCELLED: {JobState.SUSPENDED, JobState.TIMEOUT, JobState.PREEMPTED, JobState.DEADLINE},
}
"""words of the scheduler that say more than the API's seven; a suspended job is `canceled` at some facilities"""
_WORD = re.compile(r"\b[A-Z][A-Z_]{4,}\b")
_META_STATES = ("raw_state", "job_state", "state", "slurm_state")


def normalize(status: JobStatus | None) -> tuple[JobState, str]:
    """The state of a job, and the word that says it best."""
    if status is None:
        return JobState.UNKNOWN, ""
    coarse = _STATES.get(status.state.lower(), JobState.UNKNOWN)
    for word in _words(status):
        if (state := normalize_state(word)) in _PRECISE.get(coarse, ()):
            return state, word
    return coarse, status.state


def read_job(found: IriJob, system: str) -> Job:
    """The job with all that the facility tells of it."""
    state, word = normalize(found.status)
    status = found.status or JobStatus(state="")
    spec = found.job_spec or JobSpec()
    attributes = spec.attributes or JobAttributes()
    meta = status.meta_data or {}
    exit_code = status.exit_code
    if exit_code is None and state is JobState.COMPLETED:
        exit_code = 0
    time = int(status.time) if status.time else None
    return Job(
        job_id=printable(found.id),
        state=state,
        raw_state=printable(word),
        reason=printable(status.message or "") or ("held" if status.state == State.HELD else ""),
        name=spec.name or _text(meta, "name", "job_name"),
        system=system,
        user=printable(_text(meta, "user", "user_name")),
        account=printable(attributes.account or _text(meta, "account")),
        partition=printable(attributes.queue_name or _text(meta, "partition", "queue")),
        nodes=printable(_text(meta, "nodes", "node_list")),
        node_count=_number(meta, "node_count", "nodes_allocated"),
        workdir=spec.directory or "",
        exit_code=exit_code,
        times=JobTimes(
            submit=_number(meta, "submit_time") or (time if state.is_waiting else None),
            start=_number(meta, "start_time") or (time if state is JobState.RUNNING else None),
            end=_number(meta, "end_time") or (time if state.is_terminal else None),
            limit=attributes.duration,
        ),
    )


def _words(status: JobStatus) -> list[str]:
    """What may be a scheduler's own word, the most certain first."""
    meta = status.meta_data or {}
    found: list[str] = []
    for name in _META_STATES:
        value = meta.get(name)
        found += [str(each) for each in (value if isinstance(value, list) else [value]) if each]
    return [word for word in found if len(word) > 1] + _WORD.findall(status.message or "")


def _text(meta: dict[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := meta.get(name), str)), "")


def _number(meta: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = meta.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return None
