"""What watching costs, and what watchers hear, on a scheduler that counts how often it is looked at."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from crestline.gateway.job_events import JobFeeds, feeds
from crestline.gateway.job_events.feeds import Watcher
from crestline.gateway.schedulers.base import JobQuery, Scheduler
from crestline.model import GatewayUnavailableError, RateLimitedError
from crestline.wire.compute import JobInfo, JobStatus, JobTime

pytestmark = pytest.mark.anyio

FOREVER = 60.0


class Jobs:
    """All that a feed needs of a scheduler: a list that a test writes, and every look at it."""

    def __init__(self, **states: str) -> None:
        self.states = dict(states)
        self.looks: list[JobQuery] = []
        self.looked = asyncio.Event()
        self.error: Exception | None = None

    async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
        self.looks.append(query)
        self.looked.set()
        if self.error is not None:
            raise self.error
        return [
            JobInfo(job_id=job_id, name="", status=JobStatus(state=state), time=JobTime(), user=user)
            for job_id, state in self.states.items()
            if query.ids is None or job_id in query.ids
        ]

    async def next_looks(self, count: int) -> None:
        for _ in range(count):
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), FOREVER)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "INTERVAL", 0.02)


def feeds_of(jobs: Jobs) -> JobFeeds:
    return JobFeeds(cast(Scheduler, jobs))


def messages(chunk: bytes | None) -> Iterator[tuple[str, Any]]:
    assert chunk is not None
    for block in chunk.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            yield fields["event"], json.loads(fields["data"])


async def heard(watcher: Watcher, count: int = 1) -> list[tuple[str, str]]:
    """The next messages, but for `ready`: (name, the job's state or the text)."""
    told: list[tuple[str, str]] = []
    while len(told) < count:
        for name, data in messages(await asyncio.wait_for(watcher.next(), FOREVER)):
            if name == "job":
                told.append((data["jobId"], data["status"]["state"]))
            elif name != "ready":
                told.append((name, str(next(iter(data.values())))))
    return told


async def test_a_thousand_watchers_cost_one_look_each_time() -> None:
    jobs = Jobs(**{f"j{number}": "RUNNING" for number in range(1000)})
    feeds = feeds_of(jobs)
    async with AsyncExitStack() as stack:
        for number in range(1000):
            await stack.enter_async_context(feeds.watching("alice", [f"j{number}"]))
        jobs.looks.clear()
        await jobs.next_looks(3)
        assert len(jobs.looks) == 3
        assert all(query.ids is not None and len(query.ids) == 1000 for query in jobs.looks)
    await feeds.close()


async def test_no_look_makes_do_with_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep

    async def wake_early(delay: float) -> None:  # as timers in whole milliseconds do
        await sleep(max(delay - 0.001, 0))

    monkeypatch.setattr(asyncio, "sleep", wake_early)
    asked = [0.0]

    class Timed(Jobs):
        async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
            if query.since is not None:
                assert query.since > asked[-1]
                # A busy machine wakes a look late; the next one may then share its answer.
                asked.append(min(time.monotonic(), query.since + 0.9 * feeds.INTERVAL))
            return await super().jobs(user, query)

    jobs = Timed(a="RUNNING")
    alices = feeds_of(jobs)
    async with alices.watching("alice", ["a"]) as watcher:
        await jobs.next_looks(10)
        jobs.states["a"] = "FAILED"
        assert await heard(watcher, 2) == [("a", "RUNNING"), ("a", "FAILED")]  # no look broke
    await alices.close()


async def test_feed_without_watchers_does_not_poll() -> None:
    jobs = Jobs(a="RUNNING")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", ["a"]):
        await jobs.next_looks(1)
    await asyncio.sleep(0.1)
    count = len(jobs.looks)
    await asyncio.sleep(0.1)
    assert len(jobs.looks) == count
    await feeds.close()


async def test_what_has_ended_is_not_looked_at_again() -> None:
    jobs = Jobs(a="COMPLETED", b="RUNNING")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", ["a", "b"]) as watcher:
        assert sorted(await heard(watcher, 2)) == [("a", "COMPLETED"), ("b", "RUNNING")]
        await jobs.next_looks(1)
        assert jobs.looks[-1].ids == ("b",)
    await feeds.close()


async def test_every_watcher_hears_of_a_change() -> None:
    jobs = Jobs(a="RUNNING")
    feeds = feeds_of(jobs)
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(feeds.watching("alice", ["a"])) for _ in range(1200)]
        for watcher in watchers:
            assert await heard(watcher) == [("a", "RUNNING")]
        jobs.states["a"] = "COMPLETED"
        for watcher in watchers:
            assert await heard(watcher) == [("a", "COMPLETED")]
    await feeds.close()


async def test_who_reads_slowly_gets_the_latest_of_each_job_alone() -> None:
    jobs = Jobs(a="PENDING", b="PENDING")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", None) as watcher:
        for state in ("CONFIGURING", "RUNNING", "COMPLETED"):
            jobs.states["a"] = state
            await jobs.next_looks(2)
        assert sorted(await heard(watcher, 2)) == [("a", "COMPLETED"), ("b", "PENDING")]
    await feeds.close()


async def test_an_outage_is_told_and_after_it_every_state() -> None:
    jobs = Jobs(a="RUNNING", b="COMPLETED")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", None) as watcher:
        await heard(watcher, 2)
        jobs.error = GatewayUnavailableError("slurmctld is silent")
        assert await heard(watcher) == [("outage", "slurmctld is silent")]
        await jobs.next_looks(3)
        jobs.error = None
        assert sorted(await heard(watcher, 2)) == [("a", "RUNNING"), ("b", "COMPLETED")]
    await feeds.close()


async def test_no_stream_begins_during_an_outage() -> None:
    jobs = Jobs()
    jobs.error = GatewayUnavailableError("slurmctld is silent", retry_after=2)
    with pytest.raises(GatewayUnavailableError):
        async with feeds_of(jobs).watching("alice", None):
            pass


async def test_a_job_that_is_no_longer_listed_is_missing() -> None:
    jobs = Jobs(a="RUNNING", b="COMPLETED")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", ["a", "b"]) as watcher:
        await heard(watcher, 2)
        jobs.states.clear()
        assert await heard(watcher) == [("missing", "['a']")]
        jobs.states["a"] = "COMPLETED"
        assert await heard(watcher) == [("a", "COMPLETED")]
    await feeds.close()


async def test_a_fault_of_ours_ends_the_streams_rather_than_silencing_them() -> None:
    jobs = Jobs(a="RUNNING")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", ["a"]) as watcher:
        await heard(watcher)
        jobs.error = ZeroDivisionError()
        assert await asyncio.wait_for(watcher.next(), FOREVER) is None
    await feeds.close()


async def test_a_stream_ends_after_its_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.gateway.job_events.feeds._LONGEST", 0.0)
    feeds = feeds_of(Jobs(a="RUNNING"))
    async with feeds.watching("alice", ["a"]) as watcher:
        while await asyncio.wait_for(watcher.next(), FOREVER) is not None:
            pass
    await feeds.close()


async def test_a_gateway_that_stops_ends_the_streams() -> None:
    jobs = Jobs(a="RUNNING")
    feeds = feeds_of(jobs)
    async with feeds.watching("alice", ["a"]) as watcher:
        await heard(watcher)
        await feeds.close()
        assert await watcher.next() is None
    with pytest.raises(GatewayUnavailableError):
        async with feeds.watching("alice", ["a"]):
            pass


async def test_one_user_watches_a_bounded_number_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler is asked for each of them at every look."""
    monkeypatch.setattr(feeds, "MOST_IDS", 10)
    watched = feeds_of(Jobs(a="RUNNING"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched.watching("alice", [f"{number}" for number in range(8)]))
        await stack.enter_async_context(watched.watching("alice", ["7", "8", "9"]))
        with pytest.raises(RateLimitedError, match="may watch 10"):
            await stack.enter_async_context(watched.watching("alice", ["9", "10"]))
        await stack.enter_async_context(watched.watching("bob", ["10"]))
        await stack.enter_async_context(watched.watching("alice", None))
    async with watched.watching("alice", ["10"]):
        pass
