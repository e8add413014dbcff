"""`/compute/{system}/jobs`: submit, list, look up, cancel, attach."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, Router, delete, get, post, put
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.types import ASGIApp

from crestline.gateway.audit import note_target
from crestline.gateway.deadline import OWN_LIMITS
from crestline.gateway.job_events import EventStream
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.routes.conditional import answer_conditionally
from crestline.gateway.routes.queries import normalize_query
from crestline.gateway.schedulers.base import JobQuery
from crestline.model import CrestlineError, InvalidRequestError, JobNotFoundError, UnsupportedError
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
from crestline.wire.extensions import (
    IDEMPOTENCY_HEADER,
    LONGEST_WAIT,
    MOST_IN_A_BATCH,
    BatchAnswer,
    BatchError,
    BatchOutcome,
    BatchRequest,
    SubmissionAnswer,
    UsageAnswer,
)

_MAX_IDS = 1000
_ALTERNATIVES = "One value, or several separated by commas; empty: no filter"

JobIdPath = Annotated[
    JobId, PathParameter(description="A scheduler's job id, an array task's (`12_3`), or a transfer's")
]


Ids = Annotated[
    str | None,
    QueryParameter(
        name="ids",
        description="Crestline: exactly these jobs, comma-separated",
        max_length=16384,
        pattern=r"^[A-Za-z0-9_.+\[\],-]*$",
    ),
]
KnownTag = Annotated[str | None, HeaderParameter(name="If-None-Match", max_length=4096)]
Wait = Annotated[
    float,
    QueryParameter(
        name="wait",
        description="Crestline: with If-None-Match, seconds that the answer may wait for a change",
        ge=0,
        le=LONGEST_WAIT,
    ),
]


@post("/", status_code=201)
async def post_job(
    request: GatewayRequest,
    system: SystemDependency,
    caller: CallerDependency,
    data: JSONBody[SubmitRequest],
    key: Annotated[str | None, HeaderParameter(name=IDEMPOTENCY_HEADER)] = None,
) -> SubmitAnswer:
    """Submit a job."""
    job_id = await system.submissions.submit(caller.username, data.job, key)
    note_target(request.scope, job_id)
    return SubmitAnswer(job_id=job_id)


@post("/batch", status_code=200, opt={OWN_LIMITS: True})
async def post_batch(
    request: GatewayRequest, system: SystemDependency, caller: CallerDependency, data: JSONBody[BatchRequest]
) -> BatchAnswer:
    """Crestline: submit many jobs, each with its own result."""
    if len(data.jobs) > MOST_IN_A_BATCH:
        raise InvalidRequestError(f"{len(data.jobs)} jobs are too many.", hint=f"Send at most {MOST_IN_A_BATCH}.")
    outcomes = await system.submissions.submit_many(caller.username, [(each.job, each.key) for each in data.jobs])
    results = [_outcome(each) for each in outcomes]
    note_target(request.scope, *(each.job_id for each in results if each.job_id is not None))
    return BatchAnswer(results=results)


@get("/")
async def get_jobs(
    system: SystemDependency,
    caller: CallerDependency,
    allusers: Annotated[bool, QueryParameter(name="allusers")] = False,
    account: Annotated[str | None, QueryParameter(name="account", description=_ALTERNATIVES)] = None,
    name: Annotated[str | None, QueryParameter(name="name", max_length=235, description=_ALTERNATIVES)] = None,
    time_window: Annotated[TimeWindow, QueryParameter(name="time_window")] = "24h",
    ids: Ids = None,
    etag: KnownTag = None,
    wait: Wait = 0,
) -> Response[JobsAnswer | None]:
    """List the caller's jobs."""
    query = JobQuery(
        ids=_split(ids) if ids is not None else None,
        all_users=allusers,
        accounts=_alternatives(account),
        names=_alternatives(name),
        window=None if ids is not None else TIME_WINDOWS[time_window],
    )
    if wait and allusers:
        raise InvalidRequestError("wait and allusers do not go together.", hint="Wait for your own jobs, or name ids.")

    async def ask() -> list[JobInfo]:
        return await system.scheduler.jobs(caller.username, query)

    return await answer_conditionally(ask, etag, wait, lambda: system.feeds.watching(caller.username, query.ids))


@get("/events", media_type="text/event-stream", status_code=200)
async def get_events(
    system: SystemDependency,
    caller: CallerDependency,
    ids: Ids = None,
    after: Annotated[str | None, HeaderParameter(name="Last-Event-ID", max_length=64)] = None,
) -> ASGIApp:
    """Crestline: stream the state of the caller's jobs, or of the given ones, and then every change, as server-sent
    events."""
    wanted = _split(ids) if ids is not None else None
    return await EventStream.open(system.feeds.watching(caller.username, wanted, after))


@get("/submitted")
async def get_submitted(
    system: SystemDependency,
    caller: CallerDependency,
    key: Annotated[str, HeaderParameter(name=IDEMPOTENCY_HEADER, max_length=255)],
) -> SubmissionAnswer:
    """Crestline: return whether the caller has submitted a job with this key."""
    return await system.submissions.find(caller.username, key)


@get("/{job_id:str}")
async def get_job(
    system: SystemDependency, caller: CallerDependency, job_id: JobIdPath, etag: KnownTag = None, wait: Wait = 0
) -> Response[JobsAnswer | None]:
    """Return one job, with several entries for an array."""
    transfer = await system.transfers.job(caller, job_id)
    if transfer is not None:
        return Response(JobsAnswer(jobs=[transfer]))

    async def ask() -> list[JobInfo]:
        jobs = await system.scheduler.jobs(caller.username, JobQuery(ids=(job_id,), all_users=True))
        if not jobs:
            raise JobNotFoundError("Job not found.")
        return jobs

    return await answer_conditionally(ask, etag, wait, lambda: system.feeds.watching(caller.username, (job_id,)))


@get("/{job_id:str}/metadata")
async def get_metadata(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> MetadataAnswer:
    """Return the script and the paths of the streams of a job."""
    transfer = await system.transfers.metadata(caller, job_id)
    if transfer is not None:
        return MetadataAnswer(jobs=[transfer])
    return MetadataAnswer(jobs=await system.scheduler.metadata(caller.username, job_id))


@get("/{job_id:str}/usage")
async def get_usage(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> UsageAnswer:
    """Crestline: return the processor time, memory and GPU usage of a job."""
    try:
        return UsageAnswer(usage=await system.scheduler.usage(caller.username, job_id))
    except UnsupportedError as error:  # common, and not a failure of the gateway
        return UsageAnswer(reason=error.message)


@put("/{job_id:str}/attach", status_code=204, request_max_body_size=MAX_FIELDS)
async def put_attach(
    system: SystemDependency, caller: CallerDependency, job_id: JobIdPath, data: JSONBody[AttachRequest]
) -> None:
    """Run a command inside a running job."""
    await system.scheduler.attach(caller.username, job_id, data.command)


@put("/{job_id:str}/hold", status_code=204, request_max_body_size=MAX_FIELDS)
async def put_hold(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> None:
    """Hold a pending job."""
    await system.scheduler.hold(caller.username, job_id)


@delete("/{job_id:str}/hold", status_code=204)
async def delete_hold(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> None:
    """Release a held job."""
    await system.scheduler.release(caller.username, job_id)


@delete("/{job_id:str}", status_code=204)
async def delete_job(system: SystemDependency, caller: CallerDependency, job_id: JobIdPath) -> None:
    """Cancel a job. A job that has ended does not change."""
    if not await system.transfers.cancel(caller, job_id):
        await system.scheduler.cancel(caller.username, job_id)


def _outcome(found: str | CrestlineError) -> BatchOutcome:
    if isinstance(found, str):
        return BatchOutcome(job_id=found)
    causes = list(found.details) or None
    error = BatchError(status=found.status, message=str(found), caused_by=causes, retry_after=found.retry_after)
    return BatchOutcome(error=error)


def _alternatives(text: str | None) -> frozenset[str] | None:
    """Return the values that a filter accepts. A value that contains a comma is also one of them."""
    return frozenset({text, *filter(None, text.split(","))}) if text else None


def _split(ids: str) -> tuple[str, ...]:
    wanted = tuple(filter(None, ids.split(",")))
    if len(wanted) > _MAX_IDS:
        raise InvalidRequestError(f"{len(wanted)} ids are too many.", hint=f"Ask for at most {_MAX_IDS} at once.")
    return wanted


router = Router(
    "/compute/{system_name:str}/jobs",
    middleware=[normalize_query],
    route_handlers=[
        post_job,
        post_batch,
        get_jobs,
        get_events,
        get_submitted,
        get_job,
        get_metadata,
        get_usage,
        put_attach,
        put_hold,
        delete_hold,
        delete_job,
    ],
    opt={"area": "jobs"},
    tags=["compute"],
)
