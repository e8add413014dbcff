"""Submitting a job once, whatever gets lost on the way.

A key names one attempt. A Crestline gateway takes it in a header and answers a repeated request with the first job. On
plain FirecREST the job's name carries a tag made of it: the job is looked for by that before anything is repeated, and
a lock in the script ends a second job at once should there ever be one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import NotSentError
from crestline.client.connection import Connection
from crestline.client.job_ids import parent
from crestline.client.policy import SubmitPolicy
from crestline.client.run_once import guarded, is_array, is_duplicate, lock_path, tag_of, tagged_name
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobSpec,
    JobState,
    MaintenanceError,
    RateLimitedError,
    SubmitOutcomeUnknownError,
    TooLargeError,
    render_script,
)
from crestline.model.script import render_directives

_IN_A_REQUEST = 100
"""jobs of one batch; an answer that takes longer than the client waits would be asked for again"""
_NOTHING_BEGAN = (NotSentError, RateLimitedError, MaintenanceError)
"""answers after which there certainly is no job"""
_AT_ONCE = 8
"""single submissions at the same time"""


async def submit(
    connection: Connection,
    spec: JobSpec,
    key: str | None = None,
    policy: SubmitPolicy | None = None,
    *,
    is_new: bool = False,
) -> Job:
    """Submit, or find the job that an earlier call with the same key has submitted.

    Args:
        key: names this attempt; None: a new attempt that only this call repeats.
        is_new: the key was never used before, so that plain FirecREST need not be asked first for its job.

    Raises:
        InvalidRequestError: the job itself is wrong.
        ConflictError: the key was used with another job (Crestline gateways only).
        SubmitOutcomeUnknownError: it could not be found out whether there is a job; repeat with the same key.
    """
    return await _submit(connection, spec, key, policy or SubmitPolicy(), is_new=is_new, gate=asyncio.Semaphore(1))


async def _submit(
    connection: Connection,
    spec: JobSpec,
    key: str | None,
    policy: SubmitPolicy,
    *,
    is_new: bool,
    gate: asyncio.Semaphore,
) -> Job:
    """As `submit`; `gate` limits what is asked for single jobs at the same time."""
    async with gate:
        spec = await _complete(connection, spec)
    if Capability.IDEMPOTENCY_KEY in connection.backend.capabilities:
        async with gate:
            job_id = await _submit_with_header(connection, spec, key or uuid.uuid4().hex, policy)
        return _submitted(connection, spec, job_id)
    return await _Submission(connection, spec, key, policy, gate, is_new=is_new).run()


async def was_submitted(connection: Connection, spec: JobSpec, key: str, policy: SubmitPolicy | None = None) -> bool:
    """Whether an earlier call with this key has submitted the job there.

    Raises:
        CrestlineError: nobody can say.
    """
    if Capability.IDEMPOTENCY_KEY in connection.backend.capabilities:
        return await connection.backend.knows_key(key)
    spec = await _complete(connection, spec)
    return await _Submission(connection, spec, key, policy or SubmitPolicy(), asyncio.Semaphore(1)).was_there()


async def submit_many(
    connection: Connection,
    specs: Sequence[JobSpec],
    keys: Sequence[str] | None = None,
    policy: SubmitPolicy | None = None,
    *,
    are_new: bool = False,
) -> list[Job | CrestlineError]:
    """As `submit` for each job; a Crestline gateway gets them in few requests, a plain one some at a time.

    Args:
        are_new: as `is_new` of `submit`, for all keys.

    Returns:
        of each the job or the error that `submit` would have raised, in their order.
    """
    policy = policy or SubmitPolicy()
    keys = list(keys) if keys is not None else [uuid.uuid4().hex for _ in specs]
    if len(keys) != len(specs) or len(set(keys)) != len(keys):
        raise InvalidRequestError("Each job needs a key of its own.", hint="Give as many keys as jobs, all different.")
    found: dict[int, Job | CrestlineError] = {}
    if {Capability.BATCH, Capability.IDEMPOTENCY_KEY} <= connection.backend.capabilities:
        for begin in range(0, len(specs), _IN_A_REQUEST):
            some = range(begin, min(begin + _IN_A_REQUEST, len(specs)))
            found |= await _submit_together(connection, {number: (specs[number], keys[number]) for number in some})
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        try:
            found[number] = await _submit(connection, specs[number], keys[number], policy, is_new=are_new, gate=gate)
        except CrestlineError as error:
            found[number] = error

    async with asyncio.TaskGroup() as group:
        for number in range(len(specs)):
            if number not in found:
                group.create_task(one(number))
    return [found[number] for number in range(len(specs))]


async def _submit_together(
    connection: Connection, jobs: Mapping[int, tuple[JobSpec, str]]
) -> dict[int, Job | CrestlineError]:
    """What is certain after one request; what is left out has to be submitted, with its key, by itself."""
    found: dict[int, Job | CrestlineError] = {}
    ready: dict[int, tuple[JobSpec, str]] = {}
    for number, (spec, key) in jobs.items():
        try:
            ready[number] = (await _complete(connection, spec), key)
        except CrestlineError as error:
            found[number] = error
    try:
        outcomes = await connection.backend.submit_many(list(ready.values()))
    except (GatewayUnavailableError, RateLimitedError, TooLargeError):
        return found
    for (number, (spec, _)), outcome in zip(ready.items(), outcomes, strict=True):
        if isinstance(outcome, str):
            found[number] = _submitted(connection, spec, outcome)
        elif not isinstance(outcome, (GatewayUnavailableError, RateLimitedError)):
            found[number] = outcome
    return found


async def _complete(connection: Connection, spec: JobSpec) -> JobSpec:
    """With a working directory, and with its text where a script on the system has to be changed."""
    if (spec.script is None) == (spec.script_path is None):
        raise InvalidRequestError("A job needs exactly one of script and script_path.", hint="Give one of them.")
    workdir = spec.workdir or await connection.backend.default_workdir()
    spec = msgspec.structs.replace(spec, workdir=workdir)
    if spec.script_path is None:
        return spec
    if Capability.IDEMPOTENCY_KEY in connection.backend.capabilities and not render_directives(spec):
        return spec
    try:
        script = (await connection.backend.download_small(spec.script_path)).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"The script {spec.script_path} is not UTF-8 text.", hint="Convert it, or give its text as `script`."
        ) from None
    return msgspec.structs.replace(spec, script=script, script_path=None)


async def _submit_with_header(connection: Connection, spec: JobSpec, key: str, policy: SubmitPolicy) -> str:
    deadline = time.monotonic() + policy.budget
    doubt: CrestlineError | None = None
    while True:
        try:
            return await connection.backend.submit(spec, key)
        except (GatewayUnavailableError, RateLimitedError) as error:
            if not isinstance(error, _NOTHING_BEGAN):
                doubt = error
            await _pause(deadline, policy, doubt or error, error)


async def _pause(
    deadline: float, policy: SubmitPolicy, cause: CrestlineError, obstacle: CrestlineError | None = None
) -> None:
    """Wait before the next try, as long as there is time for one.

    Args:
        cause: what leaves it open whether there is a job.
        obstacle: what kept a later request from finding out.
    """
    wait = max(policy.look_every, cause.retry_after or 0.0, obstacle.retry_after or 0.0 if obstacle else 0.0)
    if time.monotonic() + wait > deadline:
        raise _outcome(cause, obstacle) from cause
    await asyncio.sleep(wait)


class _Submission:
    """One submission to plain FirecREST."""

    def __init__(
        self,
        connection: Connection,
        spec: JobSpec,
        key: str | None,
        policy: SubmitPolicy,
        gate: asyncio.Semaphore,
        *,
        is_new: bool = False,
    ) -> None:
        self._connection = connection
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
            script=guarded(script, name=name, lock=lock, environment=dict(spec.environment)),
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

    async def run(self) -> Job:
        deadline = time.monotonic() + self._policy.budget
        if self._may_be_there:
            found = await self._look_before()
            if found is not None:
                return found
        while True:
            try:
                async with self._gate:
                    job_id = await self._connection.backend.submit(self._spec, self._key)
            except _NOTHING_BEGAN as error:
                await _pause(deadline, self._policy, error)
            except GatewayUnavailableError as error:
                found = await self._find_out(deadline, error)
                if found is not None:
                    return found
            else:
                self._connection.submissions.remember(self._tag, job_id)
                return _submitted(self._connection, self._spec, job_id)

    async def was_there(self) -> bool:
        """Whether there is a job of an earlier process with this key."""
        return await self._settled_look() is not None or await self._look_at_lock() is not None

    async def _look_before(self) -> Job | None:
        """The job of an earlier process with this key.

        Lists that cannot be had do not stop the submission: the lock in the script holds also then.
        """
        try:
            found = await self._settled_look()
        except CrestlineError:
            found = await self._look_at_lock()
        if found is None and (job_id := self._connection.submissions.submitted(self._tag)):
            found = _submitted(self._connection, self._spec, job_id)
        return found

    async def _settled_look(self) -> Job | None:
        """The job of this submission, once none in the list may be it without saying so."""
        deadline = time.monotonic() + self._policy.visibility
        suspects: set[str] | None = None
        while True:
            try:
                found, nameless = await self._look()
            except NotSentError:  # the system is busy, which passes
                if time.monotonic() >= deadline:
                    raise
            else:
                suspects = nameless if suspects is None else suspects & nameless
                if found is not None or not suspects or time.monotonic() >= deadline:
                    return found
            await asyncio.sleep(self._policy.look_every)

    async def _find_out(self, deadline: float, cause: CrestlineError) -> Job | None:
        """After an answer that leaves it open: the job, or None once it is sure that there is none.

        A list that cannot be had says nothing, and takes nothing back of what others have said.

        Raises:
            SubmitOutcomeUnknownError: neither could be established in time.
        """
        absence = _Absence(self._policy.visibility)
        while True:
            obstacle = None
            try:
                found, nameless = await self._look()
            except CrestlineError as error:
                obstacle = error
            else:
                if found is not None:
                    return found
                if absence.is_certain(nameless):
                    return await self._look_at_lock()
            await _pause(deadline, self._policy, cause, obstacle)

    async def _look(self) -> tuple[Job | None, set[str]]:
        """The job of this submission, and the ids of those that may be it for all that the lists say.

        Raises:
            CrestlineError: it was not found, and not all lists could be had.
        """
        rows, nameless = await self._connection.submissions.find(self._spec.name or "", is_old=self._may_be_there)
        found = await self._ours(rows)
        return found, nameless if found is not None else nameless | {job.job_id for job in rows}

    async def _ours(self, rows: list[Job]) -> Job | None:
        """The oldest of ours that is no duplicate; where all are, the one that they left the work to."""
        ours = [job for job in rows if not is_duplicate(job)]
        if not ours:
            return await self._look_at_lock() if rows else None
        as_elements = [job for job in ours if not job.job_id.isalnum()]
        if self._is_array and not as_elements:
            # An element that runs has an id of its own. What waits has the array's.
            ours = [job for job in ours if job.state is JobState.PENDING]
            if not ours:
                return await self._look_at_lock()
        first = min(as_elements or ours, key=lambda job: (len(parent(job.job_id)), parent(job.job_id)))
        return msgspec.structs.replace(first, job_id=parent(first.job_id))

    async def _look_at_lock(self) -> Job | None:
        """A job that has begun to run has left its id in the lock."""
        try:
            holder = await self._connection.submissions.lock_holder(self._spec.workdir, self._tag)
        except CrestlineError:
            return None
        return _submitted(self._connection, self._spec, holder) if holder else None


class _Absence:
    """Whether a job that is in no list can be said not to be there."""

    def __init__(self, visibility: float) -> None:
        self._until = time.monotonic() + visibility
        self._over = False
        self._suspects: set[str] = set()

    def is_certain(self, nameless: set[str]) -> bool:
        """After one more list without it.

        Args:
            nameless: jobs in the list that may be it. Those that come up when the time is over cannot be.
        """
        if not self._over:
            self._suspects |= nameless
            self._over = time.monotonic() >= self._until
        self._suspects &= nameless
        return self._over and not self._suspects


def _submitted(connection: Connection, spec: JobSpec, job_id: str) -> Job:
    return Job(
        job_id=job_id,
        state=JobState.SUBMITTED,
        name=spec.name or "",
        system=connection.backend.system,
        account=spec.account or "",
        partition=spec.partition or "",
        workdir=spec.workdir,
    )


def _outcome(cause: CrestlineError, obstacle: CrestlineError | None) -> GatewayUnavailableError:
    """What to say of a submission that got no other answer in time."""
    if isinstance(cause, MaintenanceError):
        return cause
    if isinstance(cause, _NOTHING_BEGAN):
        return NotSentError(
            f"The job was not submitted: {cause.message}",
            hint="No job was started; submit it again later.",
            details=cause.details,
            retry_after=cause.retry_after,
        )
    looks = (f"Since then: {obstacle.message}",) if obstacle is not None and obstacle is not cause else ()
    return SubmitOutcomeUnknownError(
        f"It is not known whether the job was submitted: {cause.message}",
        hint="Submit again with the same key; a job that is there already will be found.",
        details=(*cause.details, *looks),
    )
