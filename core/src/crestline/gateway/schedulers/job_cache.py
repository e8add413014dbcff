"""A cache of jobs for status queries: the current queue of a scheduler, and the ends of earlier jobs."""

from __future__ import annotations

import abc
import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from crestline import clock, cooperative
from crestline.concurrency import map_concurrently
from crestline.cooperative import SLICE, in_thread, slices
from crestline.gateway.schedulers.base import JobList
from crestline.gateway.schedulers.single_flight_cache import MAX_AGE, BatchLoader, SingleFlightCache
from crestline.model import CrestlineError, normalize_state
from crestline.wire.compute import JobInfo, JobStatus, JobTime

_REMEMBERED = 50_000
"""Maximum number of ended jobs in a cache."""

_GRACE = 60.0
"""Seconds within which accounting is expected to list a job that has left the queue."""

_HISTORY_AGE = 60.0
"""Seconds after which accounting is asked again for jobs that ended since."""

MAX_STALE = 30.0
"""Default of the seconds for which an old list of the queue is used while a newer one is late."""

_PAUSE_PER_JOB = 1e-4
"""Seconds between two queries of the queue per job in it: ten times the cost of reading a job, to use a tenth of a
core."""

_OWNERS_AT_ONCE = 8
"""Users whose jobs are looked up at the same time."""

_DIRECT = 500
"""Maximum number of jobs that are looked up by id in place of a costly list of the queue."""


class CachedJob(msgspec.Struct, frozen=True, gc=False):
    """A job as the scheduler lists it. Readers share `job` and must not change it."""

    job: JobInfo
    raw_id: str = ""
    """Another id of the job in the scheduler (Slurm: the number of an array task), or empty."""
    fingerprint: int = 0
    """Fingerprint of the text that it was read from, for sources that compare it with the next list."""

    @property
    def has_ended(self) -> bool:
        """Whether the job is in a terminal state."""
        return normalize_state(self.job.status.state, self.job.status.exit_code).is_terminal


class JobSource(abc.ABC):
    """The scheduler that a cache reads from.

    Every method runs commands as the POSIX user `user` and raises `GatewayUnavailableError` if they do not respond.
    """

    @abc.abstractmethod
    async def queue(self, user: str, owner: str | None, ids: Collection[str] | None = None) -> list[CachedJob]:
        """Return the jobs of `owner` (None: of all users) that the scheduler still lists, including ended ones.

        Args:
            ids: only these jobs, if the scheduler lists any of them.
        """

    @abc.abstractmethod
    async def accounting(self, user: str, ids: Collection[str]) -> list[CachedJob]:
        """Return the accounting records of these jobs, regardless of their age. The id of an array selects all its
        tasks."""

    @abc.abstractmethod
    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        """Return the accounting records of jobs that were active after `since` (seconds since the epoch)."""

    @abc.abstractmethod
    async def retention(self, user: str) -> float:
        """Return the seconds for which the queue lists a job after its end."""

    @abc.abstractmethod
    def family(self, job_id: str) -> str:
        """Return the id of the array or heterogeneous job to which `job_id` belongs, or `job_id` itself."""

    def is_collapsed_array(self, job_id: str) -> bool:
        """Whether the id stands for the pending tasks of an array, so that it disappears when they start."""
        return False

    @abc.abstractmethod
    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        """Return the task `job_id` of an array whose pending tasks are listed as one, or None."""


class ListSharing(Protocol):
    """Shares one list of the queue among several gateways."""

    async def get(
        self, user: str, owner: str | None, oldest: float, fetch: Callable[[], Awaitable[list[CachedJob]]]
    ) -> tuple[list[CachedJob], float]:
        """Return a list fetched at `oldest` or later, and when it was fetched (both readings of `time.monotonic()`).

        Raises:
            CrestlineError: as `fetch`.
        """


class _Index:
    """Entries by each of their ids."""

    def __init__(self, source: JobSource, entries: Iterable[CachedJob] = ()) -> None:
        self._source = source
        self.entries: OrderedDict[str, CachedJob] = OrderedDict()
        self._raw: dict[str, str] = {}
        self._families: dict[str, dict[str, None]] = {}
        self._owners: dict[str | None, dict[str, CachedJob]] = {}
        for entry in entries:
            self.add(entry)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self.entries

    def add(self, entry: CachedJob) -> None:
        job_id = entry.job.job_id
        if job_id in self.entries:
            self.drop(job_id)
        self.entries[job_id] = entry
        self._owners.setdefault(entry.job.user, {})[job_id] = entry
        if entry.raw_id:
            self._raw[entry.raw_id] = job_id
        if (family := self._source.family(job_id)) != job_id:
            self._families.setdefault(family, {})[job_id] = None

    def drop_oldest(self) -> CachedJob:
        return self.drop(next(iter(self.entries)))

    def drop(self, job_id: str) -> CachedJob:
        entry = self.entries.pop(job_id)
        self._raw.pop(entry.raw_id, None)
        theirs = self._owners[entry.job.user]
        del theirs[job_id]
        if not theirs:
            del self._owners[entry.job.user]
        if (family := self._source.family(job_id)) != job_id:
            members = self._families[family]
            del members[job_id]
            if not members:
                del self._families[family]
        return entry

    def of(self, owner: str | None) -> Collection[CachedJob]:
        """Return the entries of one user, or of all users."""
        return self.entries.values() if owner is None else self._owners.get(owner, {}).values()

    def is_family(self, job_id: str) -> bool:
        return job_id in self._families

    def find(self, job_id: str) -> list[CachedJob]:
        """Return the job, the tasks of the array, or an empty list."""
        if job_id in self.entries:
            return [self.entries[job_id]]
        if job_id in self._families:
            return [self.entries[each] for each in self._families[job_id]]
        for sibling in self._families.get(self._source.family(job_id), ()):
            if (element := self._source.element(self.entries[sibling], job_id)) is not None:
                return [element]
        raw = self._raw.get(job_id)
        return [self.entries[raw]] if raw else []


class _History:
    """The period for which the ended jobs of one owner are known."""

    def __init__(self) -> None:
        self.wanted = math.inf
        """Start of the period, in seconds since the epoch. Jobs that ended later are requested."""
        self.changed = -math.inf
        """When `wanted` last changed, as a reading of `time.monotonic()`."""
        self.start = math.inf
        self.upto = -math.inf
        self.fetched: SingleFlightCache[None]


class JobCache:
    """The jobs that one identity can see.

    The queue is the source for every job that it lists. Accounting is the source for jobs that have left the queue. It
    is asked once per job, for many jobs in one call. Ended jobs never change, so the cache keeps them.

    The longer the queue, the older its list can be. If a caller needs a newer one, because it has just submitted or
    cancelled a job, the cache queries only the jobs in question.

    Args:
        source: the scheduler.
        user: POSIX user that runs the queries.
        owner: owner of the jobs; None: all users.
        max_age: seconds for which a list is fresh.
        max_stale: seconds for which an older list is used while a newer one is late.
        pause: minimum seconds between two queries of the queue, however short it is.
        sharing: shares the list with other gateways; None: this gateway queries alone.
    """

    def __init__(
        self,
        source: JobSource,
        user: str,
        owner: str | None,
        *,
        max_age: float = MAX_AGE,
        max_stale: float = MAX_STALE,
        pause: Callable[[], float] = lambda: 0.0,
        sharing: ListSharing | None = None,
    ) -> None:
        self._sharing = sharing
        self.used = clock.monotonic()
        self._source = source
        self._user = user
        self._owner = owner
        self._queue = SingleFlightCache(
            self._read_queue,
            max_age=max_age,
            max_stale=max_stale,
            pause=lambda held: max(len(held.entries) * _PAUSE_PER_JOB, pause()),
        )
        self._direct = BatchLoader(self._look_by_id, max_age=max_age)
        self._direct_by_owner = BatchLoader(self._look_by_owner, max_age=max_age)
        self._lookups = BatchLoader(self._lookup, max_age=max_age)
        self._held = _Index(source)
        self._expiry_task: asyncio.Task[None] | None = None
        self._ended = _Index(source)
        self._vanished = _Index(source)
        """Jobs that left the queue before their end was seen, with their last state."""
        self._vanished_at: dict[str, float] = {}
        self._whole: OrderedDict[str, None] = OrderedDict()
        """Arrays whose tasks are all in the queue or in `_ended`."""
        self._read = -math.inf
        self._silent: float | None = None
        """Since when the queue does not respond, as a reading of `time.monotonic()`."""
        self._nothing = _Index(source)
        self._broken = -math.inf
        """When jobs may last have come and gone between two queries of the queue, as a reading of
        `time.monotonic()`."""
        self._forgotten = -math.inf
        """End of the youngest job that the cache dropped because it was full."""
        self._histories: dict[str | None, _History] = {}

    async def by_ids(self, ids: Iterable[str], since: float = -math.inf, *, preferred: float = -math.inf) -> JobList:
        """Return these jobs. The id of an array selects all its tasks.

        While the queue or accounting does not respond, the list has the state `UNKNOWN` for jobs without a known state.

        Args:
            ids: ids of the jobs.
            since: reading of `time.monotonic()`; the answer is never older.
            preferred: as `since`, but an older answer is preferred to a costly query of the queue.

        Raises:
            GatewayUnavailableError: the state of none of the jobs is known.
        """
        self.used = clock.monotonic()
        ids = list(dict.fromkeys(ids))
        held: Mapping[str, _Index | None] = dict.fromkeys(ids)
        looked_up: dict[str, list[CachedJob]] | None = {}
        outage: CrestlineError | None = None
        jobs, untold = JobList(), []
        try:
            if self._needs_direct_query(since) and len(ids) <= _DIRECT:
                held = await self._direct.get(ids, since)
            else:
                held = dict.fromkeys(ids, await self._queue.get(since, preferred=preferred))
                jobs.age = self._queue.age
            self._silent = None
        except CrestlineError as error:
            outage, self._silent = error, self._silent or clock.monotonic()
        if missing := [each for each in ids if not self._is_known(held[each], each)]:
            try:
                looked_up = await self._lookups.get(missing, since)
            except CrestlineError as error:
                outage, looked_up = outage or error, None
        for each in ids:
            entries, whole = self._resolve(held[each], each, looked_up)
            jobs += [entry.job for entry in entries]
            if not whole:
                untold.append(each)
        if outage is not None and untold:
            if not jobs:
                raise outage
            jobs += [_unknown(each, outage.message) for each in untold]
            jobs.partial = outage.message
        return jobs

    async def recent(
        self, owner: str | None, start: float, since: float = -math.inf, *, preferred: float = -math.inf
    ) -> JobList:
        """Return the jobs of `owner` (None: of all users) that are in the queue or ended after `start`.

        Without an answer from accounting the list is partial.

        Args:
            owner: POSIX user; None: all users.
            start: seconds since the epoch.
            since: as for `by_ids`.
            preferred: as for `by_ids`.

        Raises:
            GatewayUnavailableError: the queue does not respond.
        """
        self.used = clock.monotonic()
        jobs = JobList()
        if owner is not None and self._needs_direct_query(since):
            held = (await self._direct_by_owner.get([owner], since))[owner]
        else:
            held = await self._queue.get(since, preferred=preferred)
            jobs.age = self._queue.age
        partial = ""
        try:
            await self._ensure_history(owner, start)
            if vanished := [entry.job.job_id for entry in self._vanished.of(owner)]:
                await self._lookups.get(vanished, since)
        except CrestlineError as error:
            partial = error.message
        if start < self._forgotten:
            partial = partial or f"Only the last {_REMEMBERED} ended jobs are listed."
        left = [*self._ended.of(owner), *self._vanished.of(owner)]
        listed = [*(entry for entry in left if entry.job.job_id not in held.entries), *held.of(owner)]
        async for some in slices(listed):
            jobs += [entry.job for entry in some if not entry.has_ended or (entry.job.time.end or math.inf) >= start]
        jobs.partial = partial
        return jobs

    def record_ended(self, entry: CachedJob) -> None:
        """Record an ended job that the scheduler may forget immediately. The queue takes precedence."""
        self._store(entry)

    async def close(self) -> None:
        """Cancel the queries in progress."""
        for part in (self._queue, self._direct, self._direct_by_owner, self._lookups):
            await part.close()
        if self._expiry_task is not None:
            self._expiry_task.cancel()
        for history in self._histories.values():
            await history.fetched.close()

    async def _read_queue(self) -> _Index:
        retention = await self._source.retention(self._user)
        now = clock.monotonic()
        if self._sharing is None:
            entries = await self._source.queue(self._user, self._owner)
        else:
            ask = partial(self._source.queue, self._user, self._owner)
            entries, now = await self._sharing.get(self._user, self._owner, self._queue.oldest, ask)
            self._queue.date(now)
        if len(entries) > SLICE:
            new, left = await asyncio.to_thread(self._compare, in_thread(entries))
        else:
            new, left = self._compare(entries)
        if now - self._read > retention / 2:
            self._broken = now
            self._whole.clear()
        self._read = now
        for entry in left:
            self._drop(entry)
        if len(self._held.entries) > SLICE:  # when the task runs, only late readers use that index
            self._expiry_task = asyncio.create_task(cooperative.clear(list(self._held.entries.values())))
        self._held = new
        return new

    def _needs_direct_query(self, since: float) -> bool:
        """Whether the list of the queue is too old for a caller, and too costly to fetch again."""
        return self._queue.is_costly and self._queue.begun < since

    async def _look_by_id(self, ids: set[str]) -> dict[str, _Index]:
        """Query the queue for these jobs."""
        found = _Index(self._source, await self._source.queue(self._user, self._owner, ids))
        for each in ids:
            self._drop_missing(self._held.find(each), found)
        return dict.fromkeys(ids, found)

    async def _look_by_owner(self, owners: set[str]) -> dict[str, _Index]:
        """Query the queue for the jobs of each of these users."""
        found = {}

        async def look(owner: str) -> None:
            found[owner] = _Index(self._source, await self._source.queue(self._user, owner))
            self._drop_missing(list(self._held.of(owner)), found[owner])

        await map_concurrently(look, owners, _OWNERS_AT_ONCE)
        return found

    def _drop_missing(self, before: Iterable[CachedJob], now: _Index) -> None:
        for entry in before:
            if entry.job.job_id not in now:
                self._drop(entry)

    def _compare(self, entries: Iterable[CachedJob]) -> tuple[_Index, list[CachedJob]]:
        """Return the new index of the queue, and the entries that have left the queue."""
        new = _Index(self._source, entries)
        return new, [entry for job_id, entry in self._held.entries.items() if job_id not in new.entries]

    def _drop(self, entry: CachedJob) -> None:
        """Remove `entry`, which has left the queue."""
        if entry.has_ended:
            self._store(entry)
        elif not self._source.is_collapsed_array(entry.job.job_id):
            self._vanished.add(entry)
            self._vanished_at[entry.job.job_id] = clock.monotonic()
            self._whole.pop(self._source.family(entry.job.job_id), None)
            if len(self._vanished.entries) > _REMEMBERED:
                self._forget(next(iter(self._vanished.entries)))

    def _store(self, entry: CachedJob) -> None:
        job_id = entry.job.job_id
        self._ended.add(entry)
        if job_id in self._vanished:
            self._forget(job_id)
        if len(self._ended.entries) > _REMEMBERED:
            dropped = self._ended.drop_oldest().job
            self._forgotten = max(self._forgotten, dropped.time.end or clock.time())
            self._whole.pop(self._source.family(dropped.job_id), None)

    def _forget(self, job_id: str) -> None:
        self._vanished.drop(job_id)
        del self._vanished_at[job_id]

    def _is_known(self, held: _Index | None, job_id: str) -> bool:
        """Whether accounting cannot add anything about a job. `held` is None while the queue does not respond."""
        if held is None:  # accounting cannot have a newer state than the queue had
            return job_id in self._last_held or (job_id in self._ended and not self._ended.is_family(job_id))
        if job_id not in held and (held.is_family(job_id) or self._ended.is_family(job_id)):
            return job_id in self._whole
        return bool(held.find(job_id) or self._ended.find(job_id))

    def _resolve(
        self, held: _Index | None, job_id: str, looked_up: dict[str, list[CachedJob]] | None
    ) -> tuple[list[CachedJob], bool]:
        """Return the known entries of a job, and whether they are complete. `looked_up` is None if accounting does
        not respond."""
        recorded = (looked_up or {}).get(job_id, [])
        if held is None:
            known = [*recorded, *self._last_held.find(job_id), *self._ended.find(job_id)]
            ended = {entry.job.job_id: entry for entry in known if entry.has_ended}
            return list(ended.values()), bool(ended) and len(ended) == len({entry.job.job_id for entry in known})
        if job_id in held:
            return [held.entries[job_id]], True
        found = {entry.job.job_id: entry for entry in recorded}
        if looked_up is not None:  # the last state in the queue is newer than a missing accounting record
            found |= {entry.job.job_id: entry for entry in self._vanished.find(job_id)}
        found |= {entry.job.job_id: entry for entry in (*self._ended.find(job_id), *held.find(job_id))}
        if held.is_family(job_id):
            found.pop(job_id, None)  # an older job with the same number: a scheduler that lost its state reuses numbers
        return list(found.values()), looked_up is not None or self._is_known(held, job_id)

    @property
    def _last_held(self) -> _Index:
        """Return the index of the queue from before it stopped responding."""
        return self._held if self._silent is not None and self._silent - self._read < _GRACE else self._nothing

    async def _lookup(self, ids: set[str]) -> dict[str, list[CachedJob]]:
        """Look up jobs that the queue does not list."""
        found = _Index(self._source)
        if self._owner is not None and not self._queue.is_failing:  # a job of another user may still be in the queue
            for entry in await self._source.queue(self._user, None, ids):
                found.add(entry)
        rest = [each for each in ids if found.is_family(each) or not found.find(each)]
        for entry in await self._source.accounting(self._user, rest) if rest else ():
            if entry.job.job_id not in found:
                found.add(entry)
                job_id = entry.job.job_id
                if entry.has_ended and (job_id not in self._held or job_id in self._vanished):
                    self._store(entry)
        lost = clock.monotonic() - _GRACE
        for each in rest:
            if found.is_family(each) and each not in found:
                self._whole[each] = None
            if not found.find(each) and self._vanished_at.get(each, math.inf) < lost:
                self._forget(each)  # no accounting, or accounting without job records
        while len(self._whole) > _REMEMBERED:
            self._whole.popitem(last=False)
        return {each: entries for each in ids if (entries := found.find(each))}

    async def _ensure_history(self, owner: str | None, start: float) -> None:
        """Fetch all jobs of `owner` that ended after `start` and have left the queue."""
        history = self._histories.get(owner)
        if history is None:
            history = self._histories[owner] = _History()
            history.fetched = SingleFlightCache(lambda: self._read_history(owner, history), max_age=_HISTORY_AGE)
        if start < history.wanted:
            history.wanted, history.changed = start, clock.monotonic()
        await history.fetched.get(max(history.changed, self._broken))

    async def _read_history(self, owner: str | None, history: _History) -> None:
        now = clock.time()
        start = history.wanted if history.wanted < history.start else history.upto - _HISTORY_AGE
        for entry in await self._source.history(self._user, owner, start):
            job_id = entry.job.job_id
            if entry.has_ended and job_id not in self._held and job_id not in self._ended:
                self._store(entry)
        history.start, history.upto = min(start, history.start), now


def _unknown(job_id: str, reason: str) -> JobInfo:
    return JobInfo(job_id=job_id, name="", status=JobStatus(state="UNKNOWN", state_reason=reason), time=JobTime())
