"""What all ways of submitting a job once have in common."""

from __future__ import annotations

import abc
import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import NOTHING_BEGAN, NotSentError
from crestline.client.policy import SubmitPolicy
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobSpec,
    JobState,
    MaintenanceError,
    SubmitOutcomeUnknownError,
)
from crestline.model.text import printable

_AT_ONCE = 8
"""single submissions at the same time"""
Confirm = Callable[[], Awaitable[None]]
"""Raises if a submission shall not be sent any more."""


class SubmissionStrategy(abc.ABC):
    """How a submission is made unique."""

    def __init__(self, backend: Backend, policy: SubmitPolicy) -> None:
        self._backend = backend
        self._policy = policy

    async def submit(
        self, spec: JobSpec, key: str | None = None, *, is_new: bool = False, confirm: Confirm | None = None
    ) -> Job:
        """Submit, or find the job that an earlier call with the same key has submitted.

        Args:
            key: names this attempt; None: a new attempt that only this call repeats.
            is_new: the key was never used before, so that its job need not be looked for first.
            confirm: is awaited before each request that can begin a job, and raises if none shall begin any more.
                An API that recognises keys is asked in any case: its answer names the job that the key has.

        Raises:
            InvalidRequestError: the job itself is wrong, or the key is empty.
            ConflictError: the key was used with another job (where the API recognises keys).
            SubmitOutcomeUnknownError: it could not be found out whether there is a job; repeat with the same key.
        """
        _refuse_empty(key)
        return await self._submit(spec, key, is_new=is_new, gate=asyncio.Semaphore(1), confirm=confirm)

    async def submit_many(
        self, specs: Sequence[JobSpec], keys: Sequence[str] | None = None, *, keys_are_new: bool = False
    ) -> list[Job | CrestlineError]:
        """As `submit` for each job, in as few requests as the API allows.

        Args:
            keys_are_new: as `is_new` of `submit`, for all keys.

        Returns:
            of each the job or the error that `submit` would have raised, in their order.
        """
        keys = list(keys) if keys is not None else [uuid.uuid4().hex for _ in specs]
        if len(keys) != len(specs) or len(set(keys)) != len(keys):
            raise InvalidRequestError(
                "Each job needs a key of its own.", hint="Give as many keys as jobs, all different."
            )
        for key in keys:
            _refuse_empty(key)
        found = await self._submit_in_one_request(dict(enumerate(zip(specs, keys, strict=True))))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            try:
                found[number] = await self._submit(specs[number], keys[number], is_new=keys_are_new, gate=gate)
            except CrestlineError as error:
                found[number] = error

        async with asyncio.TaskGroup() as group:
            for number in range(len(specs)):
                if number not in found:
                    group.create_task(one(number))
        return [found[number] for number in range(len(specs))]

    @abc.abstractmethod
    async def was_submitted(self, spec: JobSpec, key: str) -> bool:
        """Whether an earlier call with this key has submitted the job here.

        Raises:
            CrestlineError: that cannot be found out.
        """

    @abc.abstractmethod
    async def _submit(
        self,
        spec: JobSpec,
        key: str | None,
        *,
        is_new: bool,
        gate: asyncio.Semaphore,
        confirm: Confirm | None = None,
    ) -> Job:
        """As `submit`; `gate` limits what is asked for single jobs at the same time."""

    async def _submit_in_one_request(self, jobs: Mapping[int, tuple[JobSpec, str]]) -> dict[int, Job | CrestlineError]:
        """What is certain after requests for many; what is left out has to be submitted, with its key, by itself."""
        return {}

    @abc.abstractmethod
    def _changes_script(self, spec: JobSpec) -> bool:
        """Whether a script that lies on the system has to be changed, and so to be read first."""

    async def _resolve_spec(self, spec: JobSpec) -> JobSpec:
        """With a working directory, and with its text where a script on the system has to be changed."""
        if (spec.script is None) == (spec.script_path is None):
            raise InvalidRequestError("A job needs exactly one of script and script_path.", hint="Give one of them.")
        workdir = spec.workdir or await self._backend.system.default_workdir()
        spec = msgspec.structs.replace(spec, workdir=workdir)
        if spec.script_path is None or not self._changes_script(spec):
            return spec
        try:
            script = (await self._backend.files.download_small(spec.script_path)).decode()
        except UnicodeDecodeError:
            raise InvalidRequestError(
                f"The script {spec.script_path} is not UTF-8 text.", hint="Convert it, or give its text as `script`."
            ) from None
        return msgspec.structs.replace(spec, script=script, script_path=None)


async def pause(
    deadline: float, policy: SubmitPolicy, cause: CrestlineError, obstacle: CrestlineError | None = None
) -> None:
    """Wait before the next try, as long as there is time for one.

    Args:
        cause: what leaves it open whether there is a job.
        obstacle: what kept a later request from finding out.
    """
    wait = max(policy.poll_interval, cause.retry_after or 0.0, obstacle.retry_after or 0.0 if obstacle else 0.0)
    if clock.monotonic() + wait > deadline:
        raise _outcome(cause, obstacle) from cause
    await asyncio.sleep(wait)


def submitted(backend: Backend, spec: JobSpec, job_id: str) -> Job:
    """A job that was just submitted."""
    return Job(
        job_id=printable(job_id),
        state=JobState.SUBMITTED,
        name=spec.name or "",
        system=backend.system_name,
        account=spec.account or "",
        partition=spec.partition or "",
        workdir=spec.workdir,
    )


def _outcome(cause: CrestlineError, obstacle: CrestlineError | None) -> GatewayUnavailableError:
    """What to say of a submission that got no other answer in time."""
    if isinstance(cause, MaintenanceError):
        return cause
    if isinstance(cause, NOTHING_BEGAN):
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


def _refuse_empty(key: str | None) -> None:
    """Refuse what would name every attempt, or none."""
    if key == "":
        raise InvalidRequestError("The key is empty.", hint="Give a word that names this attempt, or None.")
