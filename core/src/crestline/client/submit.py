"""Submitting a job once, whatever gets lost on the way.

A key names one attempt. A Crestline gateway takes it in a header and answers a repeated request with the first job. On
plain FirecREST the job's name carries a tag made of it: the job is looked for by that before anything is repeated, and
a lock in the script ends a second job at once should there ever be one.
"""

from __future__ import annotations

import asyncio
import time
import uuid

import msgspec

from crestline.client.backends.base import Backend, JobFilter, NotSentError
from crestline.client.policy import SubmitPolicy
from crestline.client.run_once import guarded, is_duplicate, lock_path, tag_in, tag_of, tagged_name
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobSpec,
    JobState,
    MissingFileError,
    RateLimitedError,
    SubmitOutcomeUnknownError,
    render_script,
)

_RECENT = 3600
"""seconds; a window in which a job that was submitted just now appears under any name"""
_LONG_AGO = 7 * 86400


async def submit(backend: Backend, spec: JobSpec, key: str | None = None, policy: SubmitPolicy | None = None) -> Job:
    """Submit, or find the job that an earlier call with the same key has submitted.

    Args:
        key: names this attempt; None: a new attempt that only this call repeats.

    Raises:
        InvalidRequestError: the job itself is wrong.
        ConflictError: the key was used with another job (Crestline gateways only).
        SubmitOutcomeUnknownError: it could not be found out whether there is a job; repeat with the same key.
    """
    policy = policy or SubmitPolicy()
    spec = await _complete(backend, spec)
    if "idempotency-key" in backend.features:
        job_id = await _submit_with_header(backend, spec, key or uuid.uuid4().hex, policy)
        return _submitted(backend, spec, job_id)
    return await _Submission(backend, spec, key, policy).run()


async def successor(backend: Backend, job: Job) -> str | None:
    """For a job that ended as a duplicate, the id of the one that runs in its place; None for any other job."""
    tag = tag_in(job.name)
    if not is_duplicate(job) or tag is None or not job.workdir:
        return None
    holder = await _holder(backend, job.workdir, tag)
    return holder if holder != job.job_id else None


async def _complete(backend: Backend, spec: JobSpec) -> JobSpec:
    """With a working directory, and with its text where a script on the system has to be changed."""
    if (spec.script is None) == (spec.script_path is None):
        raise InvalidRequestError("A job needs exactly one of script and script_path.", hint="Give one of them.")
    workdir = spec.workdir or await backend.default_workdir()
    spec = msgspec.structs.replace(spec, workdir=workdir)
    if spec.script_path is None:
        return spec
    as_it_is = (
        "idempotency-key" in backend.features
        and render_script(msgspec.structs.replace(spec, script="#!/bin/sh", script_path=None)) == "#!/bin/sh"
    )
    if as_it_is:
        return spec
    try:
        script = (await backend.download_small(spec.script_path)).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"The script {spec.script_path} is not UTF-8 text.", hint="Convert it, or give its text as `script`."
        ) from None
    return msgspec.structs.replace(spec, script=script, script_path=None)


async def _submit_with_header(backend: Backend, spec: JobSpec, key: str, policy: SubmitPolicy) -> str:
    deadline = time.monotonic() + policy.budget
    while True:
        try:
            return await backend.submit(spec, key)
        except (GatewayUnavailableError, RateLimitedError) as error:
            await _pause(deadline, policy, error)


async def _pause(deadline: float, policy: SubmitPolicy, error: CrestlineError) -> None:
    """Wait before the next try, as long as there is time for one."""
    wait = max(policy.look_every, error.retry_after or 0.0)
    if time.monotonic() + wait > deadline:
        raise _unknown(error) from error
    await asyncio.sleep(wait)


class _Submission:
    """One submission to plain FirecREST."""

    def __init__(self, backend: Backend, spec: JobSpec, key: str | None, policy: SubmitPolicy) -> None:
        self._backend = backend
        self._policy = policy
        self._may_be_there = key is not None
        self._key = key or uuid.uuid4().hex
        self._tag = tag_of(self._key)
        self._lock = lock_path(spec.workdir, self._tag)
        script = render_script(spec)
        name = tagged_name(spec.name, script, self._tag)
        self._spec = msgspec.structs.replace(
            spec,
            script=guarded(script, name=name, lock=self._lock, environment=dict(spec.environment)),
            name=name,
            environment={},
            # what render_script put into the script must not be put there again
            **dict.fromkeys(("time_limit", "nodes", "tasks", "tasks_per_node", "cpus_per_task", "memory", "gpus")),
            **dict.fromkeys(("qos", "array", "dependency")),
            exclusive=False,
            directives=(),
        )

    async def run(self) -> Job:
        deadline = time.monotonic() + self._policy.budget
        if self._may_be_there:
            found = await self._look_before(deadline)
            if found is not None:
                return found
        while True:
            try:
                job_id = await self._backend.submit(self._spec, self._key)
                return _submitted(self._backend, self._spec, job_id)
            except (NotSentError, RateLimitedError) as error:  # certainly no job
                await _pause(deadline, self._policy, error)
            except GatewayUnavailableError as error:
                found = await self._find_out(deadline, error)
                if found is not None:
                    return found

    async def _look_before(self, deadline: float) -> Job | None:
        """The job of an earlier process with this key.

        A list that cannot be had does not stop the submission: the lock in the script holds also then.
        """
        while True:
            try:
                found, doubtful = await self._look()
            except CrestlineError:
                return await self._look_at_lock()
            if found is not None or not doubtful or time.monotonic() + self._policy.look_every > deadline:
                return found
            await asyncio.sleep(self._policy.look_every)

    async def _find_out(self, deadline: float, cause: CrestlineError) -> Job | None:
        """After an answer that leaves it open: the job, or None once it is sure that there is none.

        Raises:
            SubmitOutcomeUnknownError: neither could be established in time.
        """
        absent_since: float | None = None
        while True:
            now = time.monotonic()
            try:
                found, doubtful = await self._look()
                if found is None and absent_since is not None and now - absent_since >= self._policy.visibility:
                    found = await self._look_at_lock()
            except CrestlineError:
                absent_since = None
            else:
                if found is not None:
                    return found
                if doubtful:
                    absent_since = None
                elif absent_since is None:
                    absent_since = now
                elif now - absent_since >= self._policy.visibility:
                    return None
            await _pause(deadline, self._policy, cause)

    async def _look(self) -> tuple[Job | None, bool]:
        """The job of this submission, and whether one without a name may be it (see `_nameless`).

        Raises:
            CrestlineError: no list could be had.
        """
        by_name = JobFilter(name=self._spec.name, window=_LONG_AGO)
        try:
            recent = await self._backend.jobs(JobFilter(window=_RECENT), patient=False)
        except CrestlineError:
            named = await self._backend.jobs(
                by_name, patient=False
            )  # a spoilt or endless list; the servers from 2.6 on filter
            found = self._first(named)
            if found is None:
                raise
            return found, False
        found = self._first(recent)
        if found is None and self._may_be_there:
            found = self._first(await self._backend.jobs(by_name, patient=False))
        return found, any(_nameless(job) for job in recent)

    def _first(self, jobs: list[Job]) -> Job | None:
        """The oldest of ours that is no duplicate."""
        ours = [job for job in jobs if tag_in(job.name) == self._tag and not is_duplicate(job)]
        if not ours:
            return None
        first = min(ours, key=lambda job: (len(job.job_id), job.job_id))
        return msgspec.structs.replace(first, job_id=_whole(first.job_id))

    async def _look_at_lock(self) -> Job | None:
        """A job that has begun to run has left its id in the lock."""
        try:
            holder = await _holder(self._backend, self._spec.workdir, self._tag)
        except CrestlineError:
            return None
        return _submitted(self._backend, self._spec, holder) if holder else None


async def _holder(backend: Backend, workdir: str, tag: str) -> str | None:
    directory, _, name = lock_path(workdir, tag).rpartition("/")
    try:
        entries = await backend.list(directory)
    except MissingFileError:
        return None
    return next((entry.link_target for entry in entries if entry.name == name and entry.link_target), None)


def _nameless(job: Job) -> bool:
    """For some seconds Slurm's accounting may know a job by number only: it may be any of ours."""
    return not job.name and not job.workdir and not job.is_finished


def _whole(job_id: str) -> str:
    """The array of an element: what was submitted."""
    return job_id.partition("_")[0].partition("[")[0]


def _submitted(backend: Backend, spec: JobSpec, job_id: str) -> Job:
    return Job(
        job_id=job_id,
        state=JobState.SUBMITTED,
        name=spec.name or "",
        system=backend.system,
        account=spec.account or "",
        partition=spec.partition or "",
        workdir=spec.workdir,
    )


def _unknown(error: CrestlineError) -> SubmitOutcomeUnknownError:
    return SubmitOutcomeUnknownError(
        f"It is not known whether the job was submitted: {error.message}",
        hint="Submit again with the same key; a job that is there already will be found.",
        details=error.details,
    )
