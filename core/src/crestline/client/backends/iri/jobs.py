"""`/compute` of the IRI API: the jobs of one resource."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import quote

from crestline.client.backends.answers import is_refusal, only_utf8, refused
from crestline.client.backends.base import JobEndpoints
from crestline.client.backends.iri.calls import Calls
from crestline.client.backends.iri.job_specs import decode_script, describe
from crestline.client.backends.iri.job_states import read_job
from crestline.client.backends.messages import JobFilter
from crestline.client.backends.transport import RetryMode
from crestline.client.job_ids import check_id
from crestline.model import (
    ConflictError,
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobNotFoundError,
    JobSpec,
    JobState,
    NotFoundError,
    SystemNotFoundError,
    TooLargeError,
    UnsupportedError,
)
from crestline.model.text import printable
from crestline.wire import iri

logger = logging.getLogger(__name__)

_RELIST = 600.0
"""seconds for which a list that a facility refused or never answered is not asked for again"""
_SLOW_LISTS = 2
"""lists in a row that time out before the facility counts as one without lists"""
_KEPT = 5000
"""own submissions in memory, for facilities that do not repeat a job's description"""
_DEFAULT_WINDOW = 86400


class Jobs(JobEndpoints):
    """The jobs of one compute resource.

    Args:
        resource: its id.
        account: charged for jobs that name none.
        custom_attributes: what the facility demands of every job.
        has_patterns: whether its scheduler replaces `%j` and the like in paths.
    """

    def __init__(
        self,
        calls: Calls,
        system: str,
        resource: str,
        account: str | None,
        custom_attributes: Mapping[str, str],
        *,
        has_patterns: bool,
    ) -> None:
        self._calls = calls
        self._system = system
        self._resource = quote(resource, safe="")
        self._account = account
        self._custom_attributes = custom_attributes
        self._has_patterns = has_patterns
        self._submitted: OrderedDict[str, iri.JobSpec] = OrderedDict()
        self._has_specs = True
        self._left_out: set[str] = set()
        self._honours_keys = True
        self._no_list_until = 0.0
        self._no_list_reason = ""
        self._slow_lists = 0
        self._no_history_until = 0.0

    @property
    def recognises_keys(self) -> bool:
        return self._calls.version >= 2 and self._honours_keys

    async def submit(self, spec: JobSpec, key: str) -> str:
        with only_utf8():
            job = describe(
                spec,
                account=self._account,
                custom_attributes=self._custom_attributes,
                has_patterns=self._has_patterns,
            )
        # A facility that gives whole nodes only refuses to be told that a job needs none.
        may_leave_out = {"stdin"}
        if job.resources is not None and not job.resources.exclusive_node_use:
            may_leave_out.add("exclusive")
            if "exclusive" in self._left_out:
                job.resources.exclusive_node_use = None
        if "stdin" in self._left_out:  # the script reads it by itself
            job.stdin_path = None
        try:
            job_id = await self._launch(job, key)
        except UnsupportedError as error:
            refused = {word for word in may_leave_out - self._left_out if word in error.message}
            if not refused:
                raise
            self._left_out |= refused
            return await self.submit(spec, key)
        self._submitted[job_id] = job
        if len(self._submitted) > _KEPT:
            self._submitted.popitem(last=False)
        return job_id

    async def _launch(self, job: iri.JobSpec, key: str) -> str:
        path = f"/compute/job/{self._resource}"
        sends_key = self.recognises_keys
        # With the resource, as a key counts for all resources of a facility.
        unique = f"{self._resource} {key}".encode(errors="surrogatepass")
        headers = {"Idempotency-Key": hashlib.sha256(unique).hexdigest()} if sends_key else {}
        try:
            response = await self._calls.request("POST", path, how=RetryMode.NON_IDEMPOTENT, body=job, headers=headers)
        except UnsupportedError:
            if not sends_key:
                raise
            self._honours_keys = False  # a server without a store of keys takes no request with one
            try:
                return await self._launch(job, key)
            except UnsupportedError:
                self._honours_keys = True  # it was something else that it does not offer
                raise
        except ConflictError as error:
            if not sends_key:
                raise
            raise GatewayUnavailableError(
                f"The first submission with this key is still under way: {error.message}", retry_after=2.0
            ) from None
        except InvalidRequestError as error:
            if sends_key and "idempoten" in error.message.lower():
                raise ConflictError(
                    f"The key belongs to another job: {error.message}", hint="Use a new key for a new job."
                ) from None
            raise
        except NotFoundError as error:
            if is_refusal(error.message):
                raise refused(error.message, "The scheduler refused it: correct the job.") from None
            raise SystemNotFoundError(error.message, hint="`crestline systems` lists those that are there.") from None
        return self._calls.read(response, iri.Job).id

    async def get(self, job_id: str, *, retry: bool = True) -> list[Job]:
        found = await self._status(job_id, with_spec=False, retry=retry)
        return [self._completed(read_job(found, self._system))]

    async def metadata(self, job_id: str) -> list[Job]:
        found = await self._status(job_id, with_spec=True)
        spec = found.job_spec or self._submitted.get(job_id) or iri.JobSpec()
        return [
            Job(
                job_id=printable(found.id),
                state=JobState.UNKNOWN,
                system=self._system,
                script=decode_script(spec.arguments or []),
                stdin=self._named(spec.stdin_path, job_id, spec),
                stdout=self._named(spec.stdout_path, job_id, spec),
                stderr=self._named(spec.stderr_path, job_id, spec),
            )
        ]

    def _named(self, path: str | None, job_id: str, spec: iri.JobSpec) -> str | None:
        """A path with Slurm's patterns for the id and the name of a job replaced."""
        if path is None or not self._has_patterns:
            return path
        directory = spec.directory or ""
        if "%" in directory and path.startswith(f"{directory}/"):  # not as it was sent: the facility has replaced them
            return path
        values = {"%j": job_id, "%A": job_id, "%x": spec.name or "", "%%": "%"}
        return re.sub("%.", lambda match: values.get(match[0], match[0]), path)

    async def cancel(self, job_id: str) -> None:
        check_id(job_id)
        try:
            await self._calls.request("DELETE", f"/compute/cancel/{self._resource}/{quote(job_id, safe='')}")
        except (NotFoundError, InvalidRequestError, ConflictError):
            if not all(job.is_finished for job in await self.get(job_id)):
                raise

    async def _pages(self, how: RetryMode, *, historical: bool) -> list[iri.Job]:
        path = f"/compute/status/{self._resource}"
        for with_spec in (self._has_specs, False):
            params = {"historical": historical, "include_spec": with_spec or None}
            try:
                pages = self._calls.pages("POST", path, iri.Job, params=params, how=how)
                return [job async for page in pages for job in page]
            except (UnsupportedError, InvalidRequestError):
                if not with_spec:
                    raise
                self._has_specs = False
        raise AssertionError("unreachable")

    async def _status(self, job_id: str, *, with_spec: bool, retry: bool = True) -> iri.Job:
        check_id(job_id)
        path = f"/compute/status/{self._resource}/{quote(job_id, safe='')}"
        params = {"historical": True, "include_spec": (with_spec and self._has_specs) or None}
        how: RetryMode = RetryMode.IDEMPOTENT if retry else RetryMode.FAIL_FAST
        try:
            response = await self._calls.request("GET", path, params=params, how=how)
        except NotFoundError as error:
            if error.message.lower().startswith("resource"):
                raise SystemNotFoundError(
                    error.message, hint="`crestline systems` lists those that are there."
                ) from None
            raise _no_job(job_id, error) from None
        except InvalidRequestError as error:
            if "not found" in error.message.lower():
                raise _no_job(job_id, error) from None
            raise
        except UnsupportedError:
            if not params["include_spec"]:
                raise
            self._has_specs = False
            return await self._status(job_id, with_spec=False, retry=retry)
        return self._calls.read(response, iri.Job)

    def _completed(self, job: Job) -> Job:
        """With what is known of it from its submission, where the facility does not say it."""
        if job.name or (spec := self._submitted.get(job.job_id)) is None:
            return job
        return read_with(job, spec)

    async def list(self, query: JobFilter, *, retry: bool = True) -> list[Job]:
        if query.ids is not None and not query.ids:
            return []
        now = time.monotonic()
        if now < self._no_list_until:
            raise UnsupportedError(
                f"{self._system} does not list jobs: {self._no_list_reason}", hint="Ask for single jobs by their ids."
            )
        how: RetryMode = RetryMode.IDEMPOTENT if retry else RetryMode.FAIL_FAST
        with_history = now >= self._no_history_until or query.window is not None
        try:
            try:
                found = await self._pages(how, historical=with_history)
            except (UnsupportedError, InvalidRequestError, TooLargeError) as error:
                is_whole_history_asked = isinstance(error, TooLargeError) and query.window is not None
                if not with_history or self._no_list_until > now or is_whole_history_asked:
                    raise
                self._no_history_until = now + _RELIST
                found = await self._pages(how, historical=False)
        except (UnsupportedError, GatewayUnavailableError) as error:
            is_slow = error.status in (408, 504) or "Timeout" in error.message
            self._slow_lists += is_slow
            if isinstance(error, UnsupportedError) or (is_slow and self._slow_lists >= _SLOW_LISTS):
                self._slow_lists = 0
                self._no_list_until, self._no_list_reason = now + _RELIST, error.message
                logger.warning("No job list from %s, asking job by job: %s", self._system, error.message)
            raise
        self._slow_lists = 0
        jobs = [self._completed(read_job(each, self._system)) for each in found]
        return [job for job in jobs if _matches(job, query)]


def read_with(job: Job, spec: iri.JobSpec) -> Job:
    """The job with the name, directory, account and queue that it was submitted with."""
    import msgspec

    attributes = spec.attributes or iri.JobAttributes()
    return msgspec.structs.replace(
        job,
        name=spec.name or "",
        workdir=spec.directory or "",
        account=job.account or attributes.account or "",
        partition=job.partition or attributes.queue_name or "",
    )


def _matches(job: Job, query: JobFilter) -> bool:
    names = {*query.names, *([query.name] if query.name is not None else [])}
    if query.ids is not None and job.job_id not in query.ids:
        return False
    if names and job.name not in names:
        return False
    if query.account is not None and job.account != query.account:
        return False
    return job.times.end is None or job.times.end >= time.time() - (query.window or _DEFAULT_WINDOW)


def _no_job(job_id: str, error: CrestlineError) -> JobNotFoundError:
    return JobNotFoundError(
        f"The scheduler does not know job {job_id}: {error.message}", hint="Check the job id; old jobs are forgotten."
    )
