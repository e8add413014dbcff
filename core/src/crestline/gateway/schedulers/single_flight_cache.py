"""Caches that share one fetch among many callers."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from crestline import clock
from crestline.gateway import metrics
from crestline.model import CrestlineError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

MAX_AGE = 1.0
"""Maximum age of a value in seconds, counted from the start of its fetch."""

_OUTAGE = 10.0
"""Seconds after a failure during which callers get that failure immediately while the next attempt runs."""


class SingleFlightCache(Generic[T]):
    """A value that one call fetches on demand for all callers (single flight).

    A caller waits for the fetch if the value is too old, with two exceptions while the value is younger than
    `max_stale`:
    if fetches are costly or the last one failed, callers get the older value immediately, and the next fetch runs in
    the background. Without such a value, a caller gets the failure immediately while the next attempt runs. So an
    unresponsive scheduler delays only the first caller, and the first success ends the outage.

    Args:
        fetch: returns the value.
        max_age: seconds for which a value is fresh, counted from the start of its fetch.
        max_stale: seconds for which an older value is served while a newer one is late; 0: never.
        pause: seconds between the starts of two fetches, by the value. Fetches are costly if that exceeds `max_age` and
            a second. The time between two costly fetches is also at least the duration of one.
    """

    def __init__(
        self,
        fetch: Callable[[], Coroutine[Any, Any, T]],
        *,
        max_age: float = MAX_AGE,
        max_stale: float = 0.0,
        pause: Callable[[T], float] = lambda _: 0.0,
    ) -> None:
        self._fetch = fetch
        self._max_age = max_age
        self._max_stale = max_stale
        self._pause_for = pause
        self._pause = 0.0
        self._value: T | None = None
        self._begun = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._task_begun = -math.inf
        self._outage = _Outage()
        self.oldest = -math.inf
        """Oldest acceptable start of the current fetch for the caller that started it, as a reading of
        `time.monotonic()`."""

    async def get(self, since: float = -math.inf, *, preferred: float = -math.inf) -> T:
        """Return a value that is at most `max_age` seconds old, or an older one as described in the class.

        Args:
            since: reading of `time.monotonic()`; the value is never older.
            preferred: as `since`, but an older value is preferred to a costly fetch.

        Raises:
            CrestlineError: the fetch failed, now or within the last seconds.
        """
        oldest = max(clock.monotonic() - self._max_age, since, preferred)
        while self._begun < oldest:
            if self._is_servable(since) and (self.is_costly or self._outage.is_on):
                if self._task is None and clock.monotonic() >= self._task_begun + self._pause:
                    self._start(oldest)
                break
            task = self._task or self._start(oldest)
            if not self._is_servable(since):
                self._outage.check()
            if self._task_begun < oldest:  # its value may be older than `oldest`
                await asyncio.wait({task})
                continue
            try:
                await asyncio.shield(task)
            except CrestlineError:
                if not self._is_servable(since):
                    raise
        metrics.SNAPSHOT_AGE.observe(self.age)
        return cast(T, self._value)

    @property
    def age(self) -> float:
        """Seconds since the fetch of the value began; infinite before the first."""
        return clock.monotonic() - self._begun

    @property
    def begun(self) -> float:
        """When the fetch of the value began, as a reading of `time.monotonic()`; minus infinity before the first."""
        return self._begun

    @property
    def is_costly(self) -> bool:
        """Whether callers get an older value instead of waiting for a fetch."""
        return self._pause > max(self._max_age, MAX_AGE)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed a short time ago."""
        return self._outage.is_on

    def date(self, begun: float) -> None:
        """Set the start of the current fetch to this reading of `time.monotonic()`."""
        self._task_begun = begun

    async def close(self) -> None:
        """Cancel the current fetch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _is_servable(self, since: float) -> bool:
        """Whether the value may be served although it is not fresh."""
        return self._begun >= since and self.age < self._max_stale

    def _start(self, oldest: float) -> asyncio.Task[None]:
        self.oldest = oldest
        pause = self._task_begun + self._max_age - clock.monotonic() if self._outage.is_on else 0.0
        self._task_begun = clock.monotonic() + max(pause, 0.0)
        self._task = asyncio.create_task(self._attempt(pause))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # a caller need not wait for it
        return self._task

    async def _attempt(self, pause: float) -> None:
        # Update all state before the task is done, because a caller may come before any callback runs.
        try:
            if pause > 0:  # a fetch that fails immediately is not repeated without pause
                await asyncio.sleep(pause)
            self._value, self._begun = await self._fetch(), self._task_begun
            self._pause = min(self._pause_for(self._value), self._max_stale / 2)
            if self.is_costly:
                self._pause = min(max(self._pause, 2 * self.age), self._max_stale / 2)
            self._outage.note(None)
        except Exception as error:
            self._outage.note(error)
            raise
        finally:
            self._task = None


class BatchLoader(Generic[K, V]):
    """Look-ups of single keys, combined into batches: one call at a time, and one per `max_age` seconds."""

    def __init__(self, fetch: Callable[[set[K]], Awaitable[Mapping[K, V]]], *, max_age: float = MAX_AGE) -> None:
        self._fetch = fetch
        self._max_age = max_age
        self._last: _BatchCall[K, V] | None = None
        self._next: _BatchCall[K, V] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._outage = _Outage()

    async def get(self, keys: Iterable[K], since: float = -math.inf) -> dict[K, V]:
        """Return the values of `keys`, at most `max_age` seconds old. Unknown keys are left out.

        Raises:
            CrestlineError: the call failed, now or within the last seconds.
        """
        oldest = max(clock.monotonic() - self._max_age, since)
        found: dict[K, V] = {}
        missing = set(keys)
        if self._last is not None and self._last.begun >= oldest and (known := missing & self._last.keys):
            found |= await self._answers(self._last, known)
            missing -= known
        if missing:
            if self._next is None:
                self._next = _BatchCall()
            self._next.keys |= missing
            found |= await self._answers(self._next, missing)
        return found

    async def close(self) -> None:
        """Cancel the current call."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})

    async def _answers(self, round_: _BatchCall[K, V], keys: set[K]) -> dict[K, V]:
        if self._runner is None and self._next is not None:
            self._runner = asyncio.create_task(self._run())
        if not round_.done.done():
            self._outage.check()
        answers = await asyncio.shield(round_.done)
        return {key: answers[key] for key in keys if key in answers}

    async def _run(self) -> None:
        try:
            while self._next is not None:
                if self._last is not None:
                    await asyncio.sleep(self._last.begun + self._max_age - clock.monotonic())
                self._last, self._next = self._next, None
                await self._ask(self._last)
        finally:
            self._runner = None
            if self._next is not None:
                self._next.done.cancel()
                self._next = None

    async def _ask(self, round_: _BatchCall[K, V]) -> None:
        round_.begun = clock.monotonic()
        try:
            round_.done.set_result(await self._fetch(round_.keys))
        except asyncio.CancelledError:
            round_.done.cancel()
            raise
        except Exception as error:  # raised to the callers that wait for this batch
            round_.done.set_exception(error)
        self._outage.note(round_.done.exception())


class _BatchCall(Generic[K, V]):
    """One call of a `BatchLoader`: collecting keys, then in progress, then done."""

    def __init__(self) -> None:
        self.keys: set[K] = set()
        self.begun = math.inf
        self.done: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()


class _Outage:
    """The last failure, for a limited time."""

    def __init__(self) -> None:
        self._error: CrestlineError | None = None
        self._since = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether the last attempt failed a short time ago."""
        return self._error is not None and clock.monotonic() - self._since < _OUTAGE

    def note(self, error: BaseException | None) -> None:
        """Record the result of the last attempt. Only a `CrestlineError` counts as an outage."""
        self._error = error if isinstance(error, CrestlineError) else None
        self._since = clock.monotonic()

    def check(self) -> None:
        """Raise a copy of the failure if it is recent. A copy, because many callers raise it."""
        if self._error is not None and self.is_on:
            raise copy.copy(self._error)
