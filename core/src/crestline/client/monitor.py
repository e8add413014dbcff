"""The job monitor: one poller for all watched jobs of an identity on a system, to which callers subscribe.

While any job is watched, one list request per interval serves all of them. The monitor fetches jobs that the list lacks
by id, a few at a time. An error does not change a job's state. A job is gone only after several lists lacked it. On a
Crestline gateway the monitor listens to the event stream, and lists only jobs that the stream does not cover.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Iterable

import msgspec

from crestline import clock, cooperative
from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import JobFilter
from crestline.client.job_ids import check_id, merge_answer
from crestline.client.job_index import JobIndex
from crestline.client.job_stream import JobStream
from crestline.client.policy import PollPolicy
from crestline.client.submission_lookup import SubmissionLookup
from crestline.client.submit_guard import is_duplicate
from crestline.client.watched_job import JobEvent, WatchedJob, Watcher
from crestline.concurrency import map_concurrently
from crestline.model import CrestlineError, Job, JobNotFoundError, JobState

_LOG = logging.getLogger(__name__)

_SLICE = 100
"""number of watchers that are notified before yielding to the event loop"""
_GATHERING = 1e-5
"""seconds per watched job to wait for further watchers; ten times the time of one pass over the jobs"""
_IDS_IN_A_QUERY = 200
_AT_ONCE = 4
"""concurrent requests by id; more would exceed an sshd's default of 10 sessions per connection"""
_NARROW = 3600
"""FirecREST's smallest time window, in seconds"""


class JobMonitor:
    """Watches the jobs of one backend within one event loop; `System.monitor` returns it.

    Attributes:
        list_requests: number of list requests so far.
        id_requests: number of requests by id so far.
        error: error of the last round; None if it succeeded.

    Example::

        async for event in daint.monitor.watch(job):
            print(event.state)
    """

    def __init__(self, backend: Backend, submissions: SubmissionLookup, policy: PollPolicy | None = None) -> None:
        self._backend = backend
        self._submissions = submissions
        self._policy = policy or PollPolicy()
        self._entries: dict[str, WatchedJob] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._turn = 0
        self._narrow = False
        self._list_again_at = 0.0
        self._list_again_in = self._policy.min_interval
        self._duplicates: list[tuple[WatchedJob, Job]] = []
        self._stream = JobStream(backend, self._policy, self._on_event, self._on_outage, self._wake.set)
        self.list_requests = 0
        self.id_requests = 0
        self.error: CrestlineError | None = None

    async def watch(self, job: Job | str) -> AsyncGenerator[JobEvent, None]:
        """Iterate over the job's present state, if known, and each of its changes until the job has ended.

        Raises:
            JobNotFoundError: the scheduler has not shown the job for `PollPolicy.missing_timeout`.
            InvalidRequestError: the id has no valid form.
        """
        entry = self._entry(job)
        watcher = Watcher()
        entry.watchers.append(watcher)
        try:
            if entry.job.state is not JobState.UNKNOWN:
                watcher.notify(entry.event())
            self._start()
            while True:
                event = await watcher.next()
                yield event
                if event.state.is_terminal:
                    return
        finally:
            entry.watchers.remove(watcher)

    async def wait(self, job: Job | str) -> Job:
        """Wait until the job has ended and return it. Raises the errors of `watch`."""
        async with contextlib.aclosing(self.watch(job)) as events:
            async for event in events:
                last = event.job
        return last

    def snapshot(self, job: Job | str) -> Job:
        """Return the job as last reported, without waiting. The monitor then watches it for `PollPolicy.idle_ttl`.

        On the first call for an id, the state is UNKNOWN, or that of the given `Job`.

        Raises:
            JobNotFoundError: the scheduler has not shown the job for `PollPolicy.missing_timeout`.
            InvalidRequestError: the id has no valid form.
        """
        entry = self._entry(job)
        entry.wanted_until = clock.monotonic() + self._policy.idle_ttl
        if self._is_confirmed_missing(entry, entry.missed_at):
            raise _report_missing(entry.job.job_id)
        self._start()
        return entry.job

    async def close(self) -> None:
        """Stop polling. The iterations of remaining watchers end with an error."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._stream.close()
        for entry in self._entries.values():
            for watcher in entry.watchers:
                watcher.notify(CrestlineError("The connection was closed.", hint="Keep it open while you wait."))
        self._entries.clear()

    # watched jobs

    def _entry(self, job: Job | str) -> WatchedJob:
        now = clock.monotonic()
        job_id = job if isinstance(job, str) else job.job_id
        entry = self._entries.get(job_id)
        if entry is None:
            check_id(job_id)
            if isinstance(job, str):
                state = JobState.SUBMITTED if self._submissions.has_submitted(job_id) else JobState.UNKNOWN
                job = Job(job_id=job_id, state=state, system=self._backend.system_name)
            entry = self._entries[job_id] = WatchedJob(job, now)
            self._wake.set()
        return entry

    def _active(self, now: float) -> list[WatchedJob]:
        """Return the jobs to poll, and drop jobs that no caller has requested for `idle_ttl`."""
        unwanted = [name for name, each in self._entries.items() if not each.watchers and each.wanted_until < now]
        for job_id in unwanted:
            del self._entries[job_id]
        return [entry for entry in self._entries.values() if not entry.job.is_finished]

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="crestline-monitor")

    # the loop

    async def _run(self) -> None:
        try:
            while self._active(clock.monotonic()):
                await self._rounds()
                await self._stream.close()  # meanwhile a watcher may have been added
        except Exception as error:
            _LOG.exception("The job monitor broke")
            for entry in self._entries.values():
                for watcher in entry.watchers:
                    watcher.notify(
                        CrestlineError(f"The job monitor broke ({type(error).__name__}).", hint="See the log.")
                    )
            raise

    async def _rounds(self) -> None:
        last_round = -self._policy.max_interval
        costs = 0.0, 0.0  # of the last two rounds: a single slow one may be due to a start, the next shows
        while entries := self._active(clock.monotonic()):
            self._wake.clear()
            self._stream.subscribe([entry.job.job_id for entry in entries])
            now = clock.monotonic()
            quiet = now - max(entry.last_news for entry in entries)
            interval = self._policy.interval(quiet, min(costs))
            if self.error is not None:
                interval = max(self._policy.max_interval, self.error.retry_after or 0.0)
            elif unheard := [entry for entry in entries if not self._stream.covers(entry.job.job_id)]:
                entries = unheard
            else:
                interval = self._policy.streaming_interval
            interval *= random.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)  # noqa: S311
            if (left := last_round + interval - now) > 0:
                try:
                    async with asyncio.timeout(left):
                        await self._wake.wait()  # a watcher was added; perhaps of a fresh job
                except TimeoutError:
                    pass
                else:
                    await asyncio.sleep(_GATHERING * len(entries))
                    continue
            last_round = clock.monotonic()
            await self._round(entries)
            costs = costs[1], clock.monotonic() - last_round

    def _on_event(self, job: Job) -> bool:
        """Apply an event. Returns False if the job must be polled as well."""
        entry = self._entries.get(job.job_id)
        if entry is None or is_duplicate(job):
            return False
        if not entry.job.is_finished:
            entry.heard = clock.monotonic()
            self._update(entry, job, entry.heard)
        return True

    async def _on_outage(self, reason: str) -> None:
        now = clock.monotonic()
        await self._mark_unknown(
            [entry for entry in self._active(now) if self._stream.covers(entry.job.job_id)], reason
        )

    async def _round(self, entries: list[WatchedJob]) -> None:
        now = clock.monotonic()
        missed = entries
        self._duplicates.clear()
        if now >= self._list_again_at:
            try:
                listed = await self._list(entries)
            except CrestlineError as error:
                if not await self._answers_by_id(entries[self._turn % len(entries)]):
                    self.error = error
                    await self._mark_unknown(entries, str(error))
                    return
                # Only the list fails: it is too long, or one job in it cannot be parsed.
                self._list_again_in = min(self._list_again_in * 2, self._policy.list_retry_delay)
                self._list_again_at = now + self._list_again_in
                _LOG.warning("No job list from %s, asking job by job: %s", self._backend.gateway_url, error)
            else:
                self._list_again_in = self._policy.min_interval
                missed = await self._apply_list(entries, listed, now)
            self.error = None
        await self._lookup(missed)
        for entry, job in self._duplicates:
            await self._follow_original(entry, job)

    async def _list(self, entries: list[WatchedJob]) -> JobIndex:
        ids = None
        if Capability.JOB_IDS in self._backend.capabilities and len(entries) <= _IDS_IN_A_QUERY:
            ids = tuple(entry.job.job_id for entry in entries)
        try:
            jobs = await self._list_once(ids)
        except CrestlineError as error:
            if self._narrow or error.status not in (408, 413):
                raise
            self._narrow = True
            jobs = await self._list_once(ids)
        return await JobIndex.build(jobs)

    async def _list_once(self, ids: tuple[str, ...] | None) -> list[Job]:
        self.list_requests += 1
        window = _NARROW if self._narrow else None
        return await self._backend.jobs.list(
            JobFilter(ids=ids, window=window, all_users=self._policy.all_users), retry=False
        )

    async def _apply_list(self, entries: list[WatchedJob], listed: JobIndex, asked: float) -> list[WatchedJob]:
        """Apply a list that was requested at `asked`, and return the jobs that need a request by id."""
        missed = []
        async for entry in cooperative.each(entries, _SLICE):
            job = listed.find(entry.job.job_id)
            if job is None or (job.is_finished and listed.may_be_partial(job.job_id)):
                missed.append(entry)
            else:
                self._answered(entry, job, asked)
        return missed

    # by id

    async def _lookup(self, entries: list[WatchedJob]) -> None:
        """Fetch single jobs by id, in turn, so that each gets its request after some rounds."""
        if Capability.JOB_IDS in self._backend.capabilities and len(entries) > self._policy.lookups_per_round:
            await self._look_up_many(entries)
            return
        count = min(self._policy.lookups_per_round, len(entries))
        begin = self._turn % max(len(entries), 1)
        self._turn += count
        await map_concurrently(self._lookup_one, (entries[begin:] + entries[:begin])[:count], _AT_ONCE)

    async def _lookup_one(self, entry: WatchedJob) -> None:
        self.id_requests += 1
        asked = clock.monotonic()
        job_id = entry.job.job_id
        job: Job | None = None
        try:
            job = merge_answer(await self._backend.jobs.get(job_id, retry=False), job_id)
        except JobNotFoundError:
            pass
        except CrestlineError as error:
            await self._mark_unknown([entry], str(error))
            return
        if job is None:
            self._record_miss(entry)
        else:
            self._answered(entry, job, asked)

    async def _look_up_many(self, entries: list[WatchedJob]) -> None:
        for begin in range(0, len(entries), _IDS_IN_A_QUERY):
            some = entries[begin : begin + _IDS_IN_A_QUERY]
            self.id_requests += 1
            asked = clock.monotonic()
            try:
                ids = tuple(entry.job.job_id for entry in some)
                jobs = await self._backend.jobs.list(JobFilter(ids=ids, all_users=self._policy.all_users), retry=False)
            except CrestlineError as error:
                await self._mark_unknown(some, str(error))
                continue
            listed = await JobIndex.build(jobs)
            for entry in some:
                found = listed.find(entry.job.job_id)
                if found is None:
                    self._record_miss(entry)
                else:
                    self._answered(entry, found, asked)

    async def _answers_by_id(self, entry: WatchedJob) -> bool:
        """Return True if the gateway answers a request by id although lists fail."""
        self.id_requests += 1
        try:
            await self._backend.jobs.get(entry.job.job_id, retry=False)
        except JobNotFoundError:
            return True
        except CrestlineError:
            return False
        return True

    # results

    def _answered(self, entry: WatchedJob, job: Job, asked: float) -> None:
        """Apply an answer, unless an event that arrived after the request is newer."""
        if entry.heard < asked:
            self._update(entry, job, clock.monotonic())

    def _update(self, entry: WatchedJob, job: Job, now: float) -> None:
        entry.missing_since, entry.looks = None, 0
        if is_duplicate(job):
            self._duplicates.append((entry, job))
            return
        entry.update(job, now)

    async def _follow_original(self, entry: WatchedJob, job: Job) -> None:
        """Watch the original job in place of its duplicate."""
        try:
            heir = await self._submissions.original_job_id(job)
        except CrestlineError as error:
            await self._mark_unknown([entry], str(error))
            return
        if heir is not None:
            _LOG.warning("Job %s is a duplicate of %s, which is watched instead", job.job_id, heir)
            job = msgspec.structs.replace(job, job_id=heir, state=JobState.SUBMITTED, raw_state="", exit_code=None)
        entry.update(job, clock.monotonic())

    def _record_miss(self, entry: WatchedJob) -> None:
        now = clock.monotonic()
        if entry.missing_since is None:
            entry.missing_since = now
        entry.looks += 1
        entry.missed_at = now
        if self._is_confirmed_missing(entry, now):
            for watcher in entry.watchers:
                watcher.notify(_report_missing(entry.job.job_id))

    def _is_confirmed_missing(self, entry: WatchedJob, now: float) -> bool:
        if entry.missing_since is None:
            return False
        looks, timeout = self._policy.missing_checks, self._policy.missing_timeout
        is_unseen = entry.job.state is JobState.UNKNOWN and not entry.job.raw_state
        if is_unseen and self._policy.unseen_timeout is not None:
            looks, timeout = min(looks, 2), min(timeout, self._policy.unseen_timeout)
        return entry.looks >= looks and now - entry.missing_since >= timeout

    async def _mark_unknown(self, entries: Iterable[WatchedJob], reason: str) -> None:
        now = clock.monotonic()
        async for entry in cooperative.each(entries, _SLICE):
            entry.notify(JobEvent(job=entry.job, state=JobState.UNKNOWN, reason=reason), now)


def _report_missing(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(
        f"The scheduler does not know the job {job_id}.", hint="Old jobs are forgotten; check the id."
    )
