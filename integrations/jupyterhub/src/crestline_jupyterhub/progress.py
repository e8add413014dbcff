"""What a user reads while a session starts."""

from __future__ import annotations

from typing import Any

from crestline.client import JobEvent
from crestline.model import JobState

_REASONS = {
    "Resources": "waiting for free nodes",
    "Priority": "other jobs come first",
    "Dependency": "waiting for another job",
    "Reservation": "waiting for its reservation",
    "ReqNodeNotAvail": "the nodes it needs are not available now",
    "PartitionDown": "the partition is down",
    "PartitionTimeLimit": "its time limit is longer than the partition allows",
    "QOSMaxJobsPerUserLimit": "you have as many jobs as your quality of service allows",
    "AssocGrpCPUMinutesLimit": "the account's budget is used up",
    "AssocMaxJobsLimit": "the account has as many jobs as it may",
    "JobHeldUser": "it is held",
    "JobHeldAdmin": "an administrator holds it",
    "BeginTime": "its start time has not come",
}


def in_words(reason: str) -> str:
    """A scheduler's reason, in words where they are known."""
    reason = reason.strip("() ")
    if reason in ("", "None"):
        return ""
    return _REASONS.get(reason.split(",")[0], reason)


def describe(event: JobEvent) -> dict[str, Any]:
    """A job's news as an event of the hub's progress page."""
    job_id = event.job.job_id
    if event.state is JobState.UNKNOWN:
        return {"progress": 30, "message": f"Job {job_id}: its state is not known now ({event.reason}). It goes on."}
    if event.state.is_waiting:
        why = in_words(event.reason)
        return {"progress": 30, "message": f"Job {job_id} is in the queue{': ' + why if why else ''}."}
    if event.state is JobState.CONFIGURING:
        return {"progress": 50, "message": f"Job {job_id}: its nodes are being prepared."}
    if event.state.is_terminal:
        return {"progress": 90, "message": f"Job {job_id} has ended: {event.state}."}
    where = f" on {event.job.nodes}" if event.job.nodes else ""
    return {"progress": 70, "message": f"Job {job_id} runs{where}; the server is starting."}
