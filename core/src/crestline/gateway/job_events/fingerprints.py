"""Fingerprints that detect a change of a job: its state and attributes, but not its elapsed time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from crestline.cooperative import slices
from crestline.model import normalize_state
from crestline.wire.compute import JobInfo

Mark = tuple[object, ...]

_PENDING = "PENDING"


def has_ended(job: JobInfo) -> bool:
    """Whether the job is in a terminal state."""
    return normalize_state(job.status.state, job.status.exit_code).is_terminal


def fingerprint(job: JobInfo) -> Mark:
    """Return a value that is equal for two views of a job if nothing changed between them.

    It excludes elapsed times, and priorities and expected start times, which are estimates.
    """
    status, time = job.status, job.time
    return (
        job.job_id,
        status.state,
        status.state_reason,
        status.exit_code,
        status.interrupt_signal,
        job.name,
        job.account,
        job.partition,
        job.nodes,
        job.allocation_nodes,
        time.limit,
        None if status.state == _PENDING else time.start,
        time.end if has_ended(job) else None,
        [(step.id, step.status.state) for step in job.tasks] if job.tasks else None,
    )


async def entity_tag(jobs: Sequence[JobInfo], partial: str = "") -> str:
    """A weak `ETag` of a job list (RFC 9110, section 8.8.3): equal as long as no job's mark changes."""
    content = hashlib.blake2b(msgspec.msgpack.encode(partial), digest_size=12)
    async for some in slices(jobs):
        content.update(msgspec.msgpack.encode([fingerprint(job) for job in some]))
    return f'W/"{content.hexdigest()}"'
