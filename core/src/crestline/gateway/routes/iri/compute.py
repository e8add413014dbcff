"""`/compute`: submit, look up, list and cancel jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post, put
from litestar.params import HeaderParameter

from crestline.gateway.audit import note_target
from crestline.gateway.iri.errors import UnprocessableError
from crestline.gateway.iri.job_scripts import describe, spec_of
from crestline.gateway.iri.jobs import ENDED, job_of, state_of
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.routes.iri.answers import json, page
from crestline.gateway.routes.iri.facility import Limit, NoQuery, Offset
from crestline.gateway.routes.iri.reading import read_body, read_query
from crestline.gateway.routes.preencoded import age_of
from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.systems import SystemRuntime
from crestline.model import ConflictError, JobNotFoundError
from crestline.wire.compute import TIME_WINDOWS, JobInfo
from crestline.wire.extensions import IDEMPOTENCY_HEADER
from crestline.wire.iri import COMPUTE, Job, JobRequest, JobStatus, State, state_name

MAX_JOB = 1024 * 1024
"""Maximum size in bytes of a job's description, including its script."""
_JOB_ID = re.compile(r"[A-Za-z0-9_.+\[\]-]{1,64}")
_NULLABLE = ("historical", "include_spec")
_REPLY_HEADER = b"idempotency-key-reply"


class JobQueryParameters(msgspec.Struct, kw_only=True):
    """`GET /compute/status/{resource}/{job}`"""

    historical: bool | None = None
    include_spec: bool | None = None


class JobsQueryParameters(JobQueryParameters):
    """`POST /compute/status/{resource}`"""

    offset: Offset = 0
    limit: Limit = 100


class JobFilters(msgspec.Struct, kw_only=True):
    """The body of `POST /compute/status/{resource}`. Other fields are ignored, as the API's document allows."""

    name: str | None = None
    account: str | None = None
    queue_name: str | None = None
    state: str | None = None


@post(
    "/compute/job/{resource_id:str}",
    operation="launchJob",
    body=JobRequest,
    status_code=200,
    request_max_body_size=MAX_JOB,
    scope="jobs:write",
    resource=COMPUTE,
)
async def post_job(
    request: GatewayRequest,
    system: SystemDependency,
    caller: CallerDependency,
    key: Annotated[str | None, HeaderParameter(name=IDEMPOTENCY_HEADER)] = None,
) -> Response[Any]:
    """Submit a job."""
    read_query(request, NoQuery)
    job = describe(await read_body(request, JobRequest), system.scheduler.directives, system.default_directory(caller))
    known = key is not None and (await system.submissions.find(caller.username, key)).job_id is not None
    try:
        job_id = await system.submissions.submit(caller.username, job, key)
    except ConflictError as error:  # a conflict of the key, for which the API has another status
        raise UnprocessableError(error.message, hint=error.hint) from error
    note_target(request.scope, job_id)
    answer = Job(id=job_id, status=JobStatus(state=State.NEW))
    return json(_shown(answer), *([(_REPLY_HEADER, b"hit" if known else b"miss")] if key is not None else []))


@put(
    "/compute/job/{resource_id:str}/{job_id:str}",
    operation="updateJob",
    body=JobRequest,
    status_code=200,
    request_max_body_size=MAX_JOB,
    scope="jobs:write",
    resource=COMPUTE,
)
async def put_job(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
    """Refuse to change a job."""
    read_query(request, NoQuery)
    await read_body(request, JobRequest)
    await _lookup(request, system, caller.username)
    raise UnprocessableError("Submitted jobs cannot be changed.", hint="Cancel the job and submit another.")


@get(
    "/compute/status/{resource_id:str}/{job_id:str}",
    operation="getJob",
    query=JobQueryParameters,
    scope="jobs:read",
    resource=COMPUTE,
)
async def get_job(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
    """Return one job of the caller."""
    query = read_query(request, JobQueryParameters, _NULLABLE)
    found = await _lookup(request, system, caller.username)
    job = job_of(found, request.path_params["job_id"])
    if query.historical is False and job.status is not None and job.status.state in ENDED:
        raise JobNotFoundError("Job not found.", hint="It has ended: ask with historical=true.")
    if query.include_spec:
        metadata = await system.scheduler.metadata(caller.username, request.path_params["job_id"])
        job.job_spec = spec_of(found[0], metadata[0] if metadata else None)
    return json(_shown(job), *age_of(found))


@post(
    "/compute/status/{resource_id:str}",
    operation="getJobs",
    query=JobsQueryParameters,
    body=JobFilters,
    status_code=200,
    request_max_body_size=MAX_FIELDS,
    scope="jobs:read",
    resource=COMPUTE,
)
async def post_jobs(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
    """Return the caller's jobs of the last week, or those that have not ended. `include_spec` excludes their
    programs."""
    query = read_query(request, JobsQueryParameters, _NULLABLE)
    filters = await read_body(request, JobFilters, may_be_empty=True)
    asked = JobQuery(
        names=frozenset({filters.name}) if filters.name is not None else None,
        accounts=frozenset({filters.account}) if filters.account is not None else None,
        window=TIME_WINDOWS["7d" if query.historical else "1h"],
    )
    jobs = await system.scheduler.jobs(caller.username, asked)
    found = [
        info
        for info in jobs
        if (query.historical or not state_of(info).is_terminal)
        and filters.queue_name in (None, info.partition)
        and filters.state in (None, state_name(state_of(info), info.status.state_reason or ""))
    ]
    shown = page(found, query.offset, query.limit)
    answer = [_shown(job_of([info], spec=spec_of(info, None) if query.include_spec else None)) for info in shown]
    return json(answer, *age_of(jobs))


@delete(
    "/compute/cancel/{resource_id:str}/{job_id:str}",
    operation="cancelJob",
    status_code=204,
    scope="jobs:write",
    resource=COMPUTE,
)
async def delete_job(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> None:
    """Cancel a job. A job that has ended does not change."""
    read_query(request, NoQuery)
    await system.scheduler.cancel(caller.username, _job_id(request))


async def _lookup(request: GatewayRequest, system: SystemRuntime, username: str) -> list[JobInfo]:
    """Return the entries of the caller's job in the path. Other users' jobs are not found."""
    found = await system.scheduler.jobs(username, JobQuery(ids=(_job_id(request),)))
    if not found:
        raise JobNotFoundError("Job not found.", hint="POST /compute/status lists yours.")
    return found


def _job_id(request: GatewayRequest) -> str:
    job_id: str = request.path_params["job_id"]
    if not _JOB_ID.fullmatch(job_id):
        raise JobNotFoundError("Job not found.", hint="POST /compute/status lists yours.")
    return job_id


def _shown(job: Job) -> dict[str, Any]:
    """Return the job without unknown fields, because the API's document does not allow null for some of them."""
    shown: dict[str, Any] = {"id": job.id}
    if job.status is not None:
        status = msgspec.to_builtins(job.status)
        shown["status"] = {name: value for name, value in status.items() if value is not None}
    if job.job_spec is not None:
        shown["job_spec"] = msgspec.to_builtins(job.job_spec)
    return shown


handlers = [post_job, put_job, get_job, post_jobs, delete_job]
