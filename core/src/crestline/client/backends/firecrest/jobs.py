"""`/compute/{system}/jobs` of FirecREST, with what a plain one gets wrong put right."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from crestline import clock
from crestline.client.backends.answers import malformed_response
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.array_metadata import is_of_array, missing_element, of_elements
from crestline.client.backends.firecrest.errors import error_from_response
from crestline.client.backends.firecrest.job_events import EventCalls
from crestline.client.backends.firecrest.job_rows import ACCOUNTING_LAG, read_jobs
from crestline.client.backends.messages import JobFilter
from crestline.client.backends.transport import RetryMode
from crestline.client.job_ids import check_id, find_job, is_element, parent
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobNotFoundError,
    JobSpec,
    JobState,
    JobUsage,
    UnsupportedError,
    render_script,
)
from crestline.model.text import printable
from crestline.wire.codec import encode
from crestline.wire.compute import TIME_WINDOWS, JobDescription, JobMetadata, SubmitAnswer, SubmitRequest
from crestline.wire.errors import ErrorBody
from crestline.wire.extensions import (
    IDEMPOTENCY_HEADER,
    BatchAnswer,
    BatchError,
    BatchItem,
    BatchOutcome,
    BatchRequest,
    SubmissionAnswer,
    UsageAnswer,
)

_PLAIN_ID = re.compile(r"^[A-Za-z0-9]+$")

_ELEMENT = re.compile(r"_(\d+)\Z", re.ASCII)

_HAS_ENDED = "already completing or completed"
"""scancel's words for a job that needs no signal any more"""

_LONGEST_KEY = 255
"""characters that a Crestline gateway takes"""


def _sendable(key: str) -> str:
    """A key as a header and the gateway take it: one that is long, or has other characters, travels as its hash."""
    if len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable() and key == key.strip():
        return key
    return f"sha256:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


class JobCalls(EventCalls):
    """The jobs of one system."""

    @property
    def _jobs_path(self) -> str:
        return f"/compute/{self._calls.system_name}/jobs"

    async def submit(self, spec: JobSpec, key: str) -> str:
        idempotent = Capability.IDEMPOTENCY_KEY in self._calls.capabilities
        headers = {IDEMPOTENCY_HEADER: _sendable(key)} if idempotent else {}
        job = describe(spec)
        job.account = job.account or self._calls.account
        answer = await self._calls._fetch(
            SubmitAnswer,
            self._jobs_path,
            method="post",
            expect=201,
            how=RetryMode.IDEMPOTENT if idempotent else RetryMode.NON_IDEMPOTENT,
            body=SubmitRequest(job=job),
            additional_headers=headers,
        )
        return printable(answer.job_id)

    async def submit_many(self, jobs: Sequence[tuple[JobSpec, str]]) -> list[str | CrestlineError]:
        self._calls._need(Capability.BATCH)
        items = [BatchItem(job=describe(spec), key=_sendable(key)) for spec, key in jobs]
        for item in items:
            item.job.account = item.job.account or self._calls.account
        path = f"{self._jobs_path}/batch"
        response = await self._calls._request(
            "post", path, expect=200, how=RetryMode.NON_IDEMPOTENT, body=BatchRequest(jobs=items)
        )
        results = self._calls._read(response, BatchAnswer).results
        if len(results) != len(jobs):
            raise malformed_response(response, "it has not one outcome for each job")
        return [_outcome(each) for each in results]

    async def knows_key(self, key: str) -> bool:
        self._calls._need(Capability.SUBMISSION_LOOKUP)
        headers = {IDEMPOTENCY_HEADER: _sendable(key)}
        path = f"{self._jobs_path}/submitted"
        return (await self._calls._fetch(SubmissionAnswer, path, additional_headers=headers)).known

    async def get(self, job_id: str, *, retry: bool = True) -> list[Job]:
        asked = self._askable(job_id)
        how: RetryMode = RetryMode.IDEMPOTENT if retry else RetryMode.FAIL_FAST
        response = await self._calls._request("get", f"{self._jobs_path}/{asked}", expect=200, how=how)
        try:
            jobs = await read_jobs(response.content, self._calls.system_name, _answered(response))
        except msgspec.DecodeError as error:
            raise malformed_response(response, str(error)) from None
        if is_element(job_id):
            element = find_job(jobs, job_id)
            jobs = [element] if element else []
        if not jobs:
            raise JobNotFoundError(
                f"The scheduler does not know job {job_id}.", hint="Check the job id; old jobs are forgotten."
            )
        if not self._calls.capabilities and not is_element(job_id) and self._may_be_incomplete(jobs, response):
            jobs += await self._missing_element(job_id, jobs, how)
        return jobs

    def _may_be_incomplete(self, jobs: Sequence[Job], response: httpx.Response) -> bool:
        """Whether all rows of an array have ended, and the accounting may not know one of its elements yet."""
        since = _answered(response) - ACCOUNTING_LAG
        return all(job.is_finished for job in jobs) and any(
            not _PLAIN_ID.match(job.job_id) and (job.times.end or since) >= since for job in jobs
        )

    async def _missing_element(self, job_id: str, jobs: Sequence[Job], how: RetryMode) -> list[Job]:
        """An element that the array's script asks for and the rows lack, if there is one."""
        try:
            records = await self._records(job_id, how)
        except JobNotFoundError:  # known to the accounting alone
            return []
        element = missing_element(msgspec.structs.replace(records[0], job_id=job_id), jobs)
        return [element] if element else []

    async def metadata(self, job_id: str) -> list[Job]:
        jobs = await self._records(job_id)
        if not self._calls.capabilities and len(jobs) == 1 and is_of_array(jobs[0]):
            # Those that still wait share one row (`12_[4-9]`), and have written nothing.
            ids = [job_id] if is_element(job_id) else [job.job_id for job in await self.get(job_id)]
            indexes = sorted(int(match[1]) for match in map(_ELEMENT.search, ids) if match)
            return of_elements(jobs[0], indexes) or jobs
        exact = [job for job in jobs if job.job_id == job_id]
        return exact or jobs

    async def usage(self, job_id: str) -> list[JobUsage]:
        self._calls._need(Capability.JOB_USAGE)
        path = f"{self._jobs_path}/{self._askable(job_id)}/usage"
        answer = self._calls._read(await self._calls._request("get", path, expect=200), UsageAnswer)
        if answer.usage is None:
            raise UnsupportedError(
                answer.reason or "The scheduler does not report what jobs use.", hint="See the site's own accounting."
            )
        return [msgspec.convert(each, JobUsage, from_attributes=True) for each in answer.usage]

    async def _records(self, job_id: str, how: RetryMode = RetryMode.IDEMPOTENT) -> list[Job]:
        """The metadata as the gateway has them."""
        asked = self._askable(job_id)
        found = await self._calls._result(
            lambda: self._calls._api.job_metadata(self._calls.system_name, asked), list[JobMetadata], how
        )
        return [
            Job(
                job_id=printable(str(each.job_id)),
                state=JobState.UNKNOWN,
                system=self._calls.system_name,
                script=each.script,
                stdin=each.standard_input,
                stdout=each.standard_output,
                stderr=each.standard_error,
            )
            for each in found
        ]

    async def hold(self, job_id: str) -> None:
        self._calls._need(Capability.JOB_HOLD)
        await self._calls._request("put", f"{self._jobs_path}/{job_id}/hold", expect=204)

    async def release(self, job_id: str) -> None:
        self._calls._need(Capability.JOB_HOLD)
        await self._calls._request("delete", f"{self._jobs_path}/{job_id}/hold", expect=204)

    async def cancel(self, job_id: str) -> None:
        asked = self._askable(job_id)
        if asked != job_id:
            raise UnsupportedError(
                f"This gateway cannot cancel the single element {job_id}.", hint=f"Cancel the whole of {asked}."
            )
        try:
            await self._calls._ask(
                lambda: self._calls._api.cancel_job(self._calls.system_name, asked), RetryMode.FAIL_FAST
            )
        except (GatewayUnavailableError, JobNotFoundError, InvalidRequestError) as error:
            if _HAS_ENDED in error.message:
                return
            # scancel fails for a job that has ended, and FirecREST then answers 500
            if not all(job.is_finished for job in await self.get(job_id)):
                await self._calls._ask(lambda: self._calls._api.cancel_job(self._calls.system_name, asked))

    def _askable(self, job_id: str) -> str:
        """The id that this gateway takes in a path; plain FirecREST refuses those of array elements."""
        check_id(job_id)
        if _PLAIN_ID.match(job_id) or self._calls.capabilities:
            return job_id
        return parent(job_id)

    async def list(self, query: JobFilter, *, retry: bool = True) -> list[Job]:
        if query.ids is not None and not query.ids:
            return []
        names = {*query.names, *([query.name] if query.name is not None else [])}
        params: dict[str, Any] = {
            "allusers": query.all_users or None,
            "account": query.account,
            "name": ",".join(sorted(names)) or None,
            "time_window": _window_name(query.window),
        }
        if query.ids is not None and Capability.JOB_IDS in self._calls.capabilities:
            params["ids"] = ",".join(query.ids)
        how: RetryMode = RetryMode.IDEMPOTENT if retry else RetryMode.FAIL_FAST
        response = await self._calls._request("get", self._jobs_path, expect=200, how=how, params=params)
        try:
            jobs = await read_jobs(response.content, self._calls.system_name, _answered(response))
        except msgspec.DecodeError as error:
            raise malformed_response(response, str(error)) from None
        if names:  # FirecREST before 2.6 does not know the filter
            jobs = [job for job in jobs if job.name in names]
        if query.ids is not None:
            wanted = set(query.ids)
            jobs = [job for job in jobs if job.job_id in wanted or parent(job.job_id) in wanted]
        return jobs


def describe(spec: JobSpec) -> JobDescription:
    """`spec` in FirecREST's words; what those have no field for is in the script.

    Raises:
        InvalidRequestError: no script, or two.
    """
    if (spec.script is None) == (spec.script_path is None):
        raise InvalidRequestError("A job needs exactly one of script and script_path.", hint="Give one of them.")
    return JobDescription(
        working_directory=spec.workdir,
        name=spec.name,
        account=spec.account,
        reservation=spec.reservation,
        partition=spec.partition,
        standard_input=spec.stdin,
        standard_output=spec.stdout,
        standard_error=spec.stderr,
        env=dict(spec.environment) or None,
        constraints=spec.constraint,
        script=render_script(spec) if spec.script is not None else None,
        script_path=spec.script_path,
    )


def _outcome(result: BatchOutcome) -> str | CrestlineError:
    if result.job_id is not None:
        return printable(result.job_id)
    error = result.error or BatchError(status=502, message="The gateway says nothing about this job.")
    headers = {"Retry-After": str(round(error.retry_after))} if error.retry_after is not None else {}
    body = ErrorBody(message=error.message, caused_by=error.caused_by)
    return error_from_response(httpx.Response(error.status, headers=headers, content=encode(body)))


def _answered(response: httpx.Response) -> float:
    """Seconds since the epoch when an answer was given, by the clock that also dates the jobs in it."""
    try:
        return parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return clock.time()


def _window_name(seconds: int | None) -> str | None:
    """The smallest of FirecREST's windows that holds so many seconds, at most the largest."""
    if seconds is None:
        return None
    return next((name for name, length in TIME_WINDOWS.items() if length >= seconds), "7d")
