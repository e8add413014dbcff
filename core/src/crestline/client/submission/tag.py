"""Submissions to an API that knows no keys, such as plain FirecREST.

The job's name carries a tag made of the key: the job is looked for by that before anything is repeated, and a lock in
the script ends a second job at once should there ever be one.
"""

from __future__ import annotations

import asyncio
import uuid

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import NOTHING_BEGAN, NotSentError
from crestline.client.job_ids import merge_answer, parent
from crestline.client.policy import SubmitPolicy
from crestline.client.submission.strategy import Confirm, SubmissionStrategy, pause, submitted
from crestline.client.submission_lookup import SubmissionLookup
from crestline.client.submit_guard import is_array, is_duplicate, lock_path, tag_of, tagged_name, wrap_script
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobSpec,
    JobState,
    UnsupportedError,
    render_script,
)


class TagSubmission(SubmissionStrategy):
    """A tag in the job's name, looked up before any repeat, and a lock in the script."""

    def __init__(self, backend: Backend, lookup: SubmissionLookup, policy: SubmitPolicy) -> None:
        super().__init__(backend, policy)
        self._lookup = lookup

    async def was_submitted(self, spec: JobSpec, key: str) -> bool:
        spec = await self._resolve_spec(spec)
        gate = asyncio.Semaphore(1)
        return await _Submission(self._backend, self._lookup, spec, key, self._policy, gate).existed()

    async def _submit(
        self,
        spec: JobSpec,
        key: str | None,
        *,
        is_new: bool,
        gate: asyncio.Semaphore,
        confirm: Confirm | None = None,
    ) -> Job:
        async with gate:
            spec = await self._resolve_spec(spec)
        submission = _Submission(self._backend, self._lookup, spec, key, self._policy, gate, is_new=is_new)
        return await submission.run(confirm)

    def _changes_script(self, spec: JobSpec) -> bool:
        return True


class _Submission:
    """One submission."""

    def __init__(
        self,
        backend: Backend,
        lookup: SubmissionLookup,
        spec: JobSpec,
        key: str | None,
        policy: SubmitPolicy,
        gate: asyncio.Semaphore,
        *,
        is_new: bool = False,
    ) -> None:
        self._backend = backend
        self._lookup = lookup
        self._policy = policy
        self._gate = gate
        self._may_be_there = key is not None and not is_new
        self._key = key or uuid.uuid4().hex
        self._tag = tag_of(self._key)
        lock = lock_path(spec.workdir, self._tag)
        script = render_script(spec)
        name = tagged_name(spec.name, script, self._tag)
        self._is_array = is_array(script)
        self._spec = JobSpec(  # all the rest is in the script now
            script=wrap_script(script, name=name, lock=lock, environment=dict(spec.environment)),
            workdir=spec.workdir,
            name=name,
            account=spec.account,
            partition=spec.partition,
            reservation=spec.reservation,
            constraint=spec.constraint,
            stdin=spec.stdin,
            stdout=spec.stdout,
            stderr=spec.stderr,
        )

    async def run(self, confirm: Confirm | None) -> Job:
        deadline = clock.monotonic() + self._policy.total_timeout
        if self._may_be_there:
            found = await self._find_earlier_job()
            if found is not None:
                return found
        while True:
            if confirm is not None and not self._backend.jobs.recognises_keys:
                await confirm()
            try:
                async with self._gate:
                    job_id = await self._backend.jobs.submit(self._spec, self._key)
            except NOTHING_BEGAN as error:
                await pause(deadline, self._policy, error)
            except GatewayUnavailableError as error:
                found = await self._resolve_outcome(deadline, error)
                if found is not None:
                    return found
            else:
                self._lookup.remember(self._tag, job_id)
                return submitted(self._backend, self._spec, job_id)

    async def existed(self) -> bool:
        """Whether there is a job of an earlier process with this key."""
        return await self._lookup_stable() is not None or await self._read_lock() is not None

    async def _find_earlier_job(self) -> Job | None:
        """The job of an earlier process with this key.

        Lists that cannot be had do not stop the submission: the lock in the script holds also then. A complete list
        lacks a job for some seconds after its end, until Slurm's accounting has learnt of it; the lock names that job.
        """
        try:
            found = await self._lookup_stable()
        except CrestlineError:
            found = None
        found = found or await self._read_lock()
        if found is None and (job_id := self._lookup.submitted(self._tag)):
            found = submitted(self._backend, self._spec, job_id)
        return found

    async def _lookup_stable(self) -> Job | None:
        """The job of this submission, once none in the list may be it without saying so."""
        deadline = clock.monotonic() + self._policy.visibility_timeout
        suspects: set[str] | None = None
        while True:
            try:
                found, nameless = await self._search()
            except NotSentError:  # the system is busy, which passes
                if clock.monotonic() >= deadline:
                    raise
            else:
                suspects = nameless if suspects is None else suspects & nameless
                if found is not None or not suspects or clock.monotonic() >= deadline:
                    return found
            await asyncio.sleep(self._policy.poll_interval)

    async def _resolve_outcome(self, deadline: float, cause: CrestlineError) -> Job | None:
        """After an answer that leaves it open: the job, or None once the submission may be repeated.

        A list that cannot be had says nothing, and takes nothing back of what others have said.

        Raises:
            SubmitOutcomeUnknownError: neither could be established in time.
        """
        absence = _AbsenceCheck(self._policy.visibility_timeout)
        while True:
            obstacle = None
            try:
                found, nameless = await self._search()
            except CrestlineError as error:
                obstacle = error
                if isinstance(error, UnsupportedError) and (found := await self._read_lock()) is not None:
                    return found
            else:
                if found is not None:
                    return found
                if absence.is_certain(nameless):
                    return await self._read_lock()
            await pause(deadline, self._policy, cause, obstacle)
            if obstacle is not None and self._backend.jobs.recognises_keys:
                return None

    async def _search(self) -> tuple[Job | None, set[str]]:
        """The job of this submission, and the ids of those that may be it for all that the lists say.

        Raises:
            CrestlineError: it was not found, and not all lists could be had.
        """
        rows, nameless = await self._lookup.find(self._spec.name or "", is_old=self._may_be_there)
        found = await self._ours(rows)
        return found, nameless if found is not None else nameless | {job.job_id for job in rows}

    async def _ours(self, rows: list[Job]) -> Job | None:
        """Return the oldest job of this submission that is not a duplicate; if all are, the one that does the work."""
        ours = [job for job in rows if not is_duplicate(job)]
        if not ours:
            return await self._read_lock() if rows else None
        as_elements = [job for job in ours if not job.job_id.isalnum()]
        if self._is_array and not as_elements:
            # An element that runs has an id of its own. What waits has the array's.
            ours = [job for job in ours if job.state is JobState.PENDING]
            if not ours:
                return await self._read_lock()
        job_id = min((parent(job.job_id) for job in as_elements or ours), key=lambda each: (len(each), each))
        found = merge_answer([job for job in ours if parent(job.job_id) == job_id], job_id)
        if found is None or (self._is_array and found.is_finished):
            return submitted(self._backend, self._spec, job_id)  # the list may lack elements that still run
        return found

    async def _read_lock(self) -> Job | None:
        """A job that has begun to run has left its id in the lock."""
        try:
            holder = await self._lookup.lock_holder(self._spec.workdir, self._tag)
        except CrestlineError:
            return None
        return submitted(self._backend, self._spec, holder) if holder else None


class _AbsenceCheck:
    """Whether a job that is in no list can be said not to be there."""

    def __init__(self, visibility: float) -> None:
        self._until = clock.monotonic() + visibility
        self._over = False
        self._suspects: set[str] = set()

    def is_certain(self, nameless: set[str]) -> bool:
        """After one more list without it.

        Args:
            nameless: jobs in the list that may be it. Those that come up when the time is over cannot be.
        """
        if not self._over:
            self._suspects |= nameless
            self._over = clock.monotonic() >= self._until
        self._suspects &= nameless
        return self._over and not self._suspects
