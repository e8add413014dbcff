"""Submissions to an API that recognises a repeated key, such as a Crestline gateway: it answers with the first job."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

from crestline import clock
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import NOTHING_BEGAN
from crestline.client.submission.strategy import Confirm, SubmissionStrategy, pause, submitted
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobSpec,
    RateLimitedError,
    TooLargeError,
)
from crestline.model.script import render_directives

_IN_A_REQUEST = 100
"""jobs of one batch; an answer that takes longer than the client waits would be asked for again"""


class HeaderSubmission(SubmissionStrategy):
    """The key goes along with each request, so that a request may be repeated."""

    async def was_submitted(self, spec: JobSpec, key: str) -> bool:
        return await self._backend.jobs.knows_key(key)

    async def _submit(
        self,
        spec: JobSpec,
        key: str | None,
        *,
        is_new: bool,
        gate: asyncio.Semaphore,
        confirm: Confirm | None = None,
    ) -> Job:
        key = key or uuid.uuid4().hex
        async with gate:
            spec = await self._resolve_spec(spec)
        async with gate:
            return submitted(self._backend, spec, await self._send(spec, key))

    async def _send(self, spec: JobSpec, key: str) -> str:
        deadline = clock.monotonic() + self._policy.total_timeout
        doubt: CrestlineError | None = None
        while True:
            try:
                return await self._backend.jobs.submit(spec, key)
            except (GatewayUnavailableError, RateLimitedError) as error:
                if not isinstance(error, NOTHING_BEGAN):
                    doubt = error
                await pause(deadline, self._policy, doubt or error, error)

    async def _submit_in_one_request(self, jobs: Mapping[int, tuple[JobSpec, str]]) -> dict[int, Job | CrestlineError]:
        found: dict[int, Job | CrestlineError] = {}
        if Capability.BATCH in self._backend.capabilities:
            numbers = list(jobs)
            for begin in range(0, len(numbers), _IN_A_REQUEST):
                some = numbers[begin : begin + _IN_A_REQUEST]
                found |= await self._submit_batch({number: jobs[number] for number in some})
        return found

    async def _submit_batch(self, jobs: Mapping[int, tuple[JobSpec, str]]) -> dict[int, Job | CrestlineError]:
        found: dict[int, Job | CrestlineError] = {}
        ready: dict[int, tuple[JobSpec, str]] = {}
        for number, (spec, key) in jobs.items():
            try:
                ready[number] = (await self._resolve_spec(spec), key)
            except CrestlineError as error:
                found[number] = error
        try:
            outcomes = await self._backend.jobs.submit_many(list(ready.values()))
        except (GatewayUnavailableError, RateLimitedError, TooLargeError):
            return found
        for (number, (spec, _)), outcome in zip(ready.items(), outcomes, strict=True):
            if isinstance(outcome, str):
                found[number] = submitted(self._backend, spec, outcome)
            elif not isinstance(outcome, (GatewayUnavailableError, RateLimitedError)):
                found[number] = outcome
        return found

    def _changes_script(self, spec: JobSpec) -> bool:
        return bool(render_directives(spec))
