"""Jobs out of FirecREST's answers, large ones in slices, with whatever a version or a site leaves out."""

from __future__ import annotations

import msgspec

from crestline import cooperative
from crestline.bounded import decode
from crestline.clock import time as now
from crestline.model import Job, JobState, JobTimes, normalize_state
from crestline.model.text import printable
from crestline.wire.codec import Message

_SLICE = 250
"""jobs decoded between two breaths of the event loop; some milliseconds"""
ACCOUNTING_LAG = 600
"""Seconds after a job's end in which Slurm's accounting may still learn the job's name and its array."""


class _Status(Message, gc=False):
    state: str | list[str] | None = None
    state_reason: str | None = None
    exit_code: int | None = None
    interrupt_signal: int | None = None


class _Time(Message, gc=False):
    submit: int | None = None
    start: int | None = None
    end: int | None = None
    elapsed: int | None = None
    suspended: int | None = None
    limit: int | None = None
    expected_start: int | None = None


class _Row(Message, gc=False):
    """`wire.compute.JobInfo` as lenient as real servers are."""

    job_id: str | int
    name: str | None = None
    status: _Status | None = None
    time: _Time | None = None
    account: str | None = None
    group: str | None = None
    cluster: str | None = None
    priority: int | None = None
    cpus: int | None = None
    raw_id: str | None = None
    allocation_nodes: int | None = None
    nodes: str | None = None
    partition: str | None = None
    user: str | None = None
    working_directory: str | None = None


class _Rows(msgspec.Struct):
    jobs: list[msgspec.Raw] | None


async def read_jobs(body: bytes, system: str, answered: float | None = None) -> list[Job]:
    """The jobs of an answer. A row that cannot be read is left out rather than breaking the list.

    Args:
        answered: seconds since the epoch when it was given, by the server's clock; None: now, by this machine's.

    Raises:
        msgspec.DecodeError: the answer as a whole is not a list of jobs.
    """
    rows = decode(body, _Rows).jobs or []
    decoder = msgspec.json.Decoder(_Row, strict=False)
    texts: dict[str, str] = {}
    answered = now() if answered is None else answered
    jobs = []
    async for raw in cooperative.each(rows, _SLICE):
        try:
            jobs.append(_job(decoder.decode(raw), system, texts, answered))
        except msgspec.DecodeError:
            continue
    return jobs


def read_job(body: bytes, system: str) -> Job:
    """Decode one job.

    Raises:
        msgspec.DecodeError: invalid JSON, or a field of a wrong type.
    """
    return _job(decode(body, _Row, strict=False), system, {}, now())


def _job(row: _Row, system: str, texts: dict[str, str], answered: float) -> Job:
    """The job of a row; what it says like others before it is kept once, in `texts`, for who keeps thousands."""
    kept = texts.setdefault
    status = row.status or _Status()
    time = row.time or _Time()
    raw = printable("+".join(status.state) if isinstance(status.state, list) else status.state or "")
    state = normalize_state(raw, status.exit_code)
    name, workdir = row.name or "", row.working_directory or ""
    if name == "allocation" and not workdir:  # Slurm's accounting has a row for the job before it knows the job
        name = ""
        if state.is_terminal and not (time.end and time.end < answered - ACCOUNTING_LAG):
            state = JobState.RUNNING  # it may be one element of an array whose others run
    user, group, account = printable(row.user or ""), printable(row.group or ""), printable(row.account or "")
    partition, cluster = printable(row.partition or ""), printable(row.cluster or "")
    reason, nodes = _said(status.state_reason), _said(row.nodes)
    return Job(
        job_id=printable(str(row.job_id)),
        state=state,
        raw_state=kept(raw, raw),
        reason=kept(reason, reason),
        name=kept(name, name),
        system=system,
        user=kept(user, user),
        group=kept(group, group),
        account=kept(account, account),
        partition=kept(partition, partition),
        cluster=kept(cluster, cluster),
        priority=row.priority,
        cpus=row.cpus,
        raw_id=printable(row.raw_id or ""),
        nodes=kept(nodes, nodes),
        node_count=row.allocation_nodes,
        workdir=kept(workdir, workdir),
        exit_code=status.exit_code if state.is_terminal else None,
        signal=(status.interrupt_signal or None) if state.is_terminal else None,
        times=JobTimes(
            submit=time.submit,
            start=time.start or None,
            end=time.end or None,
            elapsed=time.elapsed,
            suspended=time.suspended,
            limit=time.limit,
            expected_start=time.expected_start,
        ),
    )


def _said(text: str | None) -> str:
    """The text unless it is a scheduler's way of saying nothing."""
    return "" if text in (None, "None", "(null)", "None assigned", "None assig") else printable(text)
