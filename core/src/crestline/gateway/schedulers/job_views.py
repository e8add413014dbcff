"""Selects the cache for each user: one for the whole system with an observer account, otherwise one per user."""

from __future__ import annotations

from collections.abc import Callable

from crestline import clock, cooperative
from crestline.cooperative import slices
from crestline.gateway.schedulers.base import JobList, JobQuery
from crestline.gateway.schedulers.job_cache import CachedJob, JobCache, JobSource, ListSharing
from crestline.gateway.schedulers.programs import ProgramOptions

_IDLE = 600.0
"""Seconds after which a cache without readers is closed."""

_ACTIVE = 60.0
"""Seconds for which a user counts as active after a request."""

_DEFAULT_WINDOW = 7 * 86400
"""Default period of a job list, in seconds."""


class JobViews:
    """The job lists of one system.

    Args:
        source: the scheduler.
        options: observer account, maximum age of lists, and rate of queries. The more users are active, the older are
            their lists.
        order: sort key of a job id, for jobs submitted in the same second.
    """

    def __init__(self, source: JobSource, options: ProgramOptions, order: Callable[[str], tuple[int, ...]]) -> None:
        self._source = source
        self._options = options
        self._order = order
        self.sharing: ListSharing | None = None
        """Shares lists with other gateways."""
        self._caches: dict[tuple[str, str | None], JobCache] = {}
        self._changed: dict[str, float] = {}

    async def jobs(self, user: str, query: JobQuery, *, now: bool = False, own_only: bool = False) -> JobList:
        """Return the jobs of `user` as `Scheduler.jobs` does.

        Args:
            user: the POSIX user of the caller.
            query: filter of the list.
            now: query the scheduler now, in place of using the last list.
            own_only: whether the scheduler hides users' jobs from each other.
        """
        since = clock.monotonic() if now else self._changed.get(user, 0.0)
        preferred = query.since or 0.0
        owner = None if query.all_users and not own_only else user
        if query.ids is not None:
            found = await (await self._cache(user, user)).by_ids(query.ids, since, preferred=preferred)
        else:
            start = clock.time() - (query.window or _DEFAULT_WINDOW)
            found = await (await self._cache(user, owner)).recent(owner, start, since, preferred=preferred)
        wanted = [
            job
            async for some in slices(found)
            for job in some
            if (owner is None or job.user == owner or job.status.state == "UNKNOWN")
            and query.selects(job.name, job.account)
        ]
        jobs = JobList(await cooperative.sort(wanted, key=lambda job: (job.time.submit or 0, self._order(job.job_id))))
        jobs.partial, jobs.age = found.partial, found.age
        return jobs

    def change(self, user: str) -> None:
        """Record that `user` has submitted or cancelled a job, so that their next list is not older than this
        moment."""
        self._changed[user] = clock.monotonic()
        if len(self._changed) > 1000:
            oldest = clock.monotonic() - max(self._options.max_age, self._options.max_stale)
            self._changed = {each: when for each, when in self._changed.items() if when >= oldest}

    async def record_ended(self, user: str, entry: CachedJob) -> None:
        """Record how a job of `user` ended that the scheduler may forget immediately."""
        (await self._cache(user, user)).record_ended(entry)

    async def close(self) -> None:
        """Close all caches and cancel their queries."""
        caches, self._caches = self._caches, {}
        for cache in caches.values():
            await cache.close()

    def _pause(self) -> float:
        """Return the seconds between two queries for each active user that keep the total within the configured
        rate."""
        recently = clock.monotonic() - _ACTIVE
        return sum(cache.used > recently for cache in self._caches.values()) / self._options.read_rate

    async def _cache(self, user: str, owner: str | None) -> JobCache:
        observer = self._options.observer
        key = (observer, None) if observer is not None else (user, owner)
        cache = self._caches.get(key)
        if cache is None:
            idle = clock.monotonic() - _IDLE
            for other in [each for each, cache in self._caches.items() if cache.used < idle]:
                await self._caches.pop(other).close()
            cache = self._caches[key] = JobCache(
                self._source,
                *key,
                max_age=self._options.max_age,
                max_stale=self._options.max_stale,
                pause=self._pause,
                sharing=self.sharing,
            )
        return cache
