"""Jobs of the schedulers in the API's words."""

from __future__ import annotations

from collections.abc import Sequence

from crestline.model import JobState
from crestline.model.state import normalize_state
from crestline.wire.compute import JobInfo
from crestline.wire.iri import Job, JobSpec, JobStatus, State, state_word

ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELED})


def state_of(info: JobInfo) -> JobState:
    """The state of a job as the model has it."""
    return normalize_state(info.status.state, info.status.exit_code)


def job_of(infos: Sequence[JobInfo], job_id: str | None = None, spec: JobSpec | None = None) -> Job:
    """A job; an array, of which there are several entries, has ended when all have, and failed when one has.

    Args:
        infos: at least one entry.
        job_id: under which it was asked for.
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
        state=state_word(state, info.status.state_reason or ""),
        time=float(when) if when else None,
        message=info.status.state_reason,
        exit_code=info.status.exit_code if state.is_terminal else None,
        meta_data={name: value for name, value in meta.items() if value},
    )
    return Job(id=job_id or info.job_id, status=status, job_spec=spec)


def _speaker(infos: Sequence[JobInfo]) -> JobInfo:
    """The entry whose state is the state of all."""

    def rank(info: JobInfo) -> int:
        state = state_of(info)
        if not state.is_terminal:
            return 1 if state.is_waiting or state is JobState.UNKNOWN else 0
        return 3 if state.is_success else 2

    return min(infos, key=rank)
