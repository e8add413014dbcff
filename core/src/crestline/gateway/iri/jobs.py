"""Converts the schedulers' jobs to the API's."""

from __future__ import annotations

from collections.abc import Sequence

from crestline.model import JobState
from crestline.model.state import normalize_state
from crestline.wire.compute import JobInfo
from crestline.wire.iri import Job, JobSpec, JobStatus, State, state_name

ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELED})


def state_of(info: JobInfo) -> JobState:
    """Return the state of a job in terms of the model."""
    return normalize_state(info.status.state, info.status.exit_code)


def job_of(infos: Sequence[JobInfo], job_id: str | None = None, spec: JobSpec | None = None) -> Job:
    """Return a job. An array, which has several entries, has ended when all have, and has failed if one has.

    Args:
        infos: at least one entry.
        job_id: the id in the request.
        spec: the job's specification, if requested.
    """
    info = _speaker(infos)
    state = state_of(info)
    if state is JobState.PENDING and any(state_of(each).is_terminal for each in infos):
        state = JobState.RUNNING
    times = info.time
    when = times.end if state.is_terminal else times.start or times.submit
    meta = {
        "raw_state": info.status.state,
        "name": info.name,
        "user": info.user,
        "account": info.account,
        "partition": info.partition,
        "nodes": info.nodes,
        "node_count": info.allocation_nodes,
        "submit_time": times.submit,
        "start_time": times.start,
        "end_time": times.end if state.is_terminal else None,
    }
    status = JobStatus(
        state=state_name(state, info.status.state_reason or ""),
        time=float(when) if when else None,
        message=info.status.state_reason,
        exit_code=info.status.exit_code if state.is_terminal else None,
        meta_data={name: value for name, value in meta.items() if value},
    )
    return Job(id=job_id or info.job_id, status=status, job_spec=spec)


def _speaker(infos: Sequence[JobInfo]) -> JobInfo:
    """Return the entry whose state is the state of all."""

    def rank(info: JobInfo) -> int:
        state = state_of(info)
        if not state.is_terminal:
            return 1 if state.is_waiting or state is JobState.UNKNOWN else 0
        return 3 if state.is_success else 2

    return min(infos, key=rank)
