"""`/compute/{system}/jobs`: submit, list, look up, cancel, attach."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, Router, delete, get, post, put
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter

from crestline.gateway.requests import CallerDependency, SystemDependency
from crestline.gateway.schedulers import JobQuery
from crestline.gateway.schedulers.base import JobList
from crestline.model import InvalidRequestError, JobNotFoundError
from crestline.wire.compute import (
    TIME_WINDOWS,
    AttachRequest,
    JobId,
    JobInfo,
    JobsAnswer,
    MetadataAnswer,
    SubmitAnswer,
    SubmitRequest,
    TimeWindow,
)
from crestline.wire.extensions import IDEMPOTENCY_HEADER, PARTIAL_HEADER

_MAX_IDS = 1000

JobIdPath = Annotated[
    JobId, PathParameter(description="A scheduler's job id, an array task's (`12_3`), or a transfer's")
]


@post("/", status_code=201)
async def post_job(
    system: SystemDependency,
    caller: CallerDependency,
    data: JSONBody[SubmitRequest],
    key: Annotated[str | None, HeaderParameter(name=IDEMPOTENCY_HEADER)] = None,
) -> SubmitAnswer:
    """Submit a job."""
    return SubmitAnswer(job_id=await system.submissions.submit(caller.username, data.job, key))


@get("/")
async def get_jobs(
    system: SystemDependency,
    caller: CallerDependency,
    allusers: Annotated[bool, QueryParameter(name="allusers")] = False,
    account: Annotated[str | None, QueryParameter(name="account")] = None,
    name: Annotated[str | None, QueryParameter(name="name", max_length=235)] = None,
    time_window: Annotated[TimeWindow, QueryParameter(name="time_window")] = "24h",
    ids: Annotated[
        str | None,
        QueryParameter(
            name="ids",
            description="Crestline: exactly these jobs, comma-separated",
            max_length=16384,
            pattern=r"^[A-Za-z0-9_.+\[\],-]*$",
        ),
    ] = None,
) -> Response[JobsAnswer]:
    """The caller's jobs."""
    query = JobQuery(
        ids=_split(ids) if ids is not None else None,
        all_users=allusers,
        account=account,
        name=name,
        window=None if ids is not None else TIME_WINDOWS[time_window],
    )
    return _answer(await system.scheduler.jobs(caller.username, query))


@get("/{job_id:str}")
async def get_job(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> Response[JobsAnswer]:
    """One job; several entries for an array."""
    transfer = await system.transfers.job(caller, job_id)
    if transfer is not None:
        return Response(JobsAnswer(jobs=[transfer]))
    jobs = await system.scheduler.jobs(caller.username, JobQuery(ids=(job_id,), all_users=True))
    if not jobs:
        raise JobNotFoundError("Job not found.")
    return _answer(jobs)


@get("/{job_id:str}/metadata")
async def get_metadata(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> MetadataAnswer:
    """Script and stream paths of a job."""
    transfer = await system.transfers.metadata(caller, job_id)
    if transfer is not None:
        return MetadataAnswer(jobs=[transfer])
    return MetadataAnswer(jobs=await system.scheduler.metadata(caller.username, job_id))


@put("/{job_id:str}/attach", status_code=204)
async def put_attach(
    system: SystemDependency, caller: CallerDependency, job_id: JobIdPath, data: JSONBody[AttachRequest]
) -> None:
    """Run a command inside a running job."""
    await system.scheduler.attach(caller.username, job_id, data.command)


@delete("/{job_id:str}", status_code=204)
async def delete_job(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> None:
    """Cancel a job; one that has ended stays as it is."""
    if not await system.transfers.cancel(caller, job_id):
        await system.scheduler.cancel(caller.username, job_id)


def _answer(jobs: list[JobInfo]) -> Response[JobsAnswer]:
    partial = jobs.partial if isinstance(jobs, JobList) else ""
    headers = {PARTIAL_HEADER: partial.encode("ascii", "replace").decode()} if partial else None
    return Response(JobsAnswer(jobs=jobs), headers=headers)


def _split(ids: str) -> tuple[str, ...]:
    wanted = tuple(filter(None, ids.split(",")))
    if len(wanted) > _MAX_IDS:
        raise InvalidRequestError(f"{len(wanted)} ids are too many.", hint=f"Ask for at most {_MAX_IDS} at once.")
    return wanted


router = Router(
    "/compute/{system_name:str}/jobs",
    route_handlers=[post_job, get_jobs, get_job, get_metadata, put_attach, delete_job],
    tags=["compute"],
)
