"""One feed per (system, identity): it polls the scheduler while a client watches, and publishes changes of jobs."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

from crestline import clock, cooperative
from crestline.cooperative import slices
from crestline.gateway.job_events.fingerprints import Mark, fingerprint, has_ended
from crestline.gateway.schedulers.base import JobQuery, Scheduler
from crestline.model import CrestlineError, GatewayUnavailableError, RateLimitedError
from crestline.model.job_ids import parent
from crestline.wire.codec import Message, encode
from crestline.wire.compute import JobInfo
from crestline.wire.extensions import EVENT_HEARTBEAT, JobsMissing, Outage

INTERVAL = 0.6
"""Seconds between two polls of the scheduler.

With the duration of the poll and of the notification, a change reaches all watchers within a second.
"""

_WINDOW = 86400
"""Seconds for which a feed of all jobs includes ended jobs.

A client that reconnects within this time misses no end of a job.
"""

_IDLE = 600.0
"""Seconds after which a feed without watchers is discarded."""

_LONGEST = 3600.0
"""Seconds after which the gateway closes a stream, so that the client authenticates again."""

MOST_IDS = 20_000
"""Maximum number of ids that one identity can watch. Each poll asks the scheduler for all of them."""

_SLICE = 500
"""Watchers to notify before yielding to the event loop."""

_log = logging.getLogger(__name__)


class _Known:
    """The last published version of a job, encoded as a server-sent event."""

    __slots__ = ("ended", "line", "mark", "version")

    def __init__(self, job: JobInfo, mark: Mark, version: int, epoch: str) -> None:
        self.mark = mark
        self.version = version
        self.ended = has_ended(job)
        self.line = b"id: %s.%d\nevent: job\ndata: %s\n\n" % (epoch.encode(), version, encode(job))


class Watcher:
    """A client that watches some jobs, or all jobs of its user.

    It has at most one pending entry per job: a slow reader gets the latest version of each job and uses bounded memory.
    """

    __slots__ = ("_beat", "_closed", "_feed", "_notes", "_pending", "_waiting", "began", "ids")

    def __init__(self, feed: Feed, ids: frozenset[str] | None) -> None:
        self.ids = ids
        self.began = clock.monotonic()
        self._feed = feed
        self._pending: set[str] = set()
        self._notes: list[bytes] = []
        self._beat = self._closed = False
        self._waiting: asyncio.Future[None] | None = None

    def notify(self, job_id: str) -> None:
        self._pending.add(job_id)
        self._wake()

    def post(self, line: bytes) -> None:
        """Queue a message that does not concern a single job."""
        if line not in self._notes:
            self._notes.append(line)
        self._wake()

    def heartbeat(self) -> None:
        self._beat = True
        self._wake()

    def close(self) -> None:
        """End the watcher: no further events are delivered."""
        self._closed = True
        self._wake()

    async def next(self) -> bytes | None:
        """Wait for the next messages and return them; None after `close`."""
        while not (self._pending or self._notes or self._beat or self._closed):
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._closed:
            return None
        self._beat = False
        pending, self._pending = self._pending, set()
        notes, self._notes = self._notes, []
        return b"".join([*self._feed.lines(pending), *notes]) or b": alive\n\n"

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Feed:
    """The watchers of one identity, and the jobs that they watch."""

    def __init__(self, scheduler: Scheduler, user: str) -> None:
        self.used = clock.monotonic()
        # Dictionaries in place of sets: their order is the same in every process.
        self.watchers: dict[Watcher, None] = {}
        self._scheduler = scheduler
        self._user = user
        self._epoch = secrets.token_hex(6)
        self._version = 0
        self._last_states: dict[str, _Known] = {}
        self._by_id: dict[str, dict[Watcher, None]] = {}
        self._unfiltered_watchers: dict[Watcher, None] = {}
        self._outage: bytes | None = None
        self._beaten = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._learning = asyncio.Lock()

    async def join(self, ids: Collection[str] | None, after: str | None = None) -> Watcher:
        """Add a watcher. Its first messages are the states of its jobs, or the changes since message `after`.

        Raises:
            CrestlineError: the scheduler does not respond.
        """
        self.used = clock.monotonic()
        watcher = Watcher(self, frozenset(ids) if ids is not None else None)
        new = sum(each not in self._by_id for each in watcher.ids or ())
        if len(self._by_id) + new > MOST_IDS:
            raise RateLimitedError(
                f"You watch {len(self._by_id)} jobs by their ids, and may watch {MOST_IDS}.",
                hint="Watch all your jobs, without ids.",
                retry_after=60,
            )
        seen = self._version_of(after)
        jobs = await self._ask(watcher.ids, watcher.ids is None)
        self.watchers[watcher] = None
        if watcher.ids is None:
            self._unfiltered_watchers[watcher] = None
        for each in watcher.ids or ():
            self._by_id.setdefault(each, {})[watcher] = None
        await self._update(jobs)
        for job_id, known in self._last_states.items():
            if known.version > seen and self._concerns(watcher, job_id):
                watcher.notify(job_id)
        if absent := self._absent(watcher.ids or ()):
            watcher.post(_message("missing", JobsMissing(job_ids=sorted(absent))))
        watcher.post(b"id: %s.%d\nevent: ready\ndata: {}\n\n" % (self._epoch.encode(), self._version))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"job events of {self._user}")
        return watcher

    def unsubscribe(self, watcher: Watcher) -> None:
        self.used = clock.monotonic()
        self.watchers.pop(watcher, None)
        self._unfiltered_watchers.pop(watcher, None)
        for each in watcher.ids or ():
            if (others := self._by_id.get(each)) is not None:
                others.pop(watcher, None)
                if not others:
                    del self._by_id[each]

    def lines(self, job_ids: Iterable[str]) -> list[bytes]:
        """Return the messages for these jobs, oldest first, so that the id of the last one covers all."""
        found = [self._last_states[each] for each in job_ids if each in self._last_states]
        return [known.line for known in sorted(found, key=lambda known: known.version)]

    async def close(self) -> None:
        """End every watcher."""
        for watcher in self.watchers:
            watcher.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

        # polling

    async def _run(self) -> None:
        while self.watchers:
            now = clock.monotonic()
            # All feeds poll at the same moments, so that feeds with the same observer account share a poll. A feed that
            # wakes a little early must neither use the previous poll nor poll twice.
            moment = (math.floor(now / INTERVAL + 0.1) + 1) * INTERVAL
            await asyncio.sleep(moment - now)
            if not self.watchers:
                return
            await self._publish_list(moment - INTERVAL / 2)
            if (now := clock.monotonic()) - self._beaten >= EVENT_HEARTBEAT - INTERVAL:
                self._beaten = now
                for watcher in self.watchers:
                    if now - watcher.began > _LONGEST:
                        watcher.close()
                    else:
                        watcher.heartbeat()

    async def _publish_list(self, since: float) -> None:
        """Publish the changes of a list fetched after `since` (monotonic seconds)."""
        ids = [each for each in self._by_id if not self._is_over(each)]
        before = list(self._last_states)
        try:
            jobs = await self._ask(ids, bool(self._unfiltered_watchers), since)
        except CrestlineError as error:
            outage = _message("outage", Outage(message=str(error)))
            if outage != self._outage:
                self._outage = outage
                async for watcher in cooperative.each(self.watchers, _SLICE):
                    watcher.post(outage)
            return
        except Exception:  # after an unexpected error, close all watchers so that they reconnect
            _log.exception("The job events of %s broke", self._user)
            for watcher in self.watchers:
                watcher.close()
            return
        changed = await self._update(jobs)
        await self._notify_missing(before, jobs)
        if self._outage is not None:
            self._outage = None
            for each in list(self._last_states):
                if each not in changed:
                    await self._notify(each)

    async def _ask(self, ids: Collection[str] | None, all_of_mine: bool, since: float | None = None) -> list[JobInfo]:
        jobs: list[JobInfo] = []
        if ids:
            query = JobQuery(ids=tuple(ids), all_users=True, since=since)
            jobs += await self._scheduler.jobs(self._user, query)
        if all_of_mine:
            jobs += await self._scheduler.jobs(self._user, JobQuery(window=_WINDOW, since=since))
        return jobs

    async def _update(self, jobs: Sequence[JobInfo]) -> dict[str, None]:
        """Store the jobs, notify the watchers of changes, and return the ids of changed jobs."""
        changed: dict[str, None] = {}
        async with self._learning:  # one list at a time, so that an older list does not overwrite a newer one
            async for some in slices(jobs):
                for job in some:
                    known = self._last_states.get(job.job_id)
                    new = fingerprint(job)
                    if known is None or known.mark != new:
                        self._version += 1
                        self._last_states[job.job_id] = _Known(job, new, self._version, self._epoch)
                        changed[job.job_id] = None
        for each in changed:
            await self._notify(each)
        return changed

    async def _notify(self, job_id: str) -> None:
        concerned = [*self._unfiltered_watchers, *self._by_id.get(job_id, ())]
        if (family := parent(job_id)) != job_id:
            concerned += self._by_id.get(family, ())
        async for watcher in cooperative.each(concerned, _SLICE):
            watcher.notify(job_id)

    async def _notify_missing(self, before: Iterable[str], jobs: Iterable[JobInfo]) -> None:
        """Report jobs that the scheduler no longer lists. The watcher must look up those that had not ended."""
        listed = {job.job_id for job in jobs}
        for job_id in [each for each in before if each not in listed]:
            known = self._last_states[job_id]
            if known.ended and (job_id in self._by_id or parent(job_id) in self._by_id):
                continue  # kept for watchers that reconnect; the scheduler is not asked again
            del self._last_states[job_id]
            if not known.ended:
                line = _message("missing", JobsMissing(job_ids=[job_id]))
                async for watcher in cooperative.each(self.watchers, _SLICE):
                    if self._concerns(watcher, job_id):
                        watcher.post(line)

    def _concerns(self, watcher: Watcher, job_id: str) -> bool:
        return watcher.ids is None or job_id in watcher.ids or parent(job_id) in watcher.ids

    def _is_over(self, asked: str) -> bool:
        known = self._last_states.get(asked)
        return known is not None and known.ended

    def _absent(self, ids: Iterable[str]) -> set[str]:
        found = {*self._last_states, *map(parent, self._last_states)}
        return {each for each in ids if each not in found}

    def _version_of(self, after: str | None) -> int:
        """Return the version in a `Last-Event-ID`; 0 if the id is from another epoch of the feed."""
        epoch, _, version = (after or "").partition(".")
        return int(version) if epoch == self._epoch and version.isdecimal() else 0


class JobFeeds:
    """The feeds of one system."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._feeds: dict[str, Feed] = {}
        self._closed = False

    @asynccontextmanager
    async def watching(
        self, user: str, ids: Collection[str] | None, after: str | None = None
    ) -> AsyncIterator[Watcher]:
        """Watch the jobs of `user`, or the jobs `ids`.

        Args:
            user: the POSIX user of the caller.
            ids: watch only these jobs, of any user. The id of an array selects all its tasks.
            after: the id of the last message of an earlier watcher, from which the new one continues.

        Raises:
            CrestlineError: the scheduler does not respond.
        """
        if self._closed:
            raise GatewayUnavailableError("The gateway is going down.", hint="Try again in a moment.", retry_after=1)
        feed = self._feeds.get(user)
        if feed is None:
            idle = clock.monotonic() - _IDLE
            self._feeds = {name: each for name, each in self._feeds.items() if each.watchers or each.used > idle}
            feed = self._feeds[user] = Feed(self._scheduler, user)
        watcher = await feed.join(ids, after)
        try:
            yield watcher
        finally:
            feed.unsubscribe(watcher)

    async def close(self) -> None:
        """Close all watchers and refuse new ones."""
        self._closed = True
        for feed in self._feeds.values():
            await feed.close()


def _message(event: str, content: Message) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), encode(content))
