"""Long lists are worked on in slices: the result is the same, and others get their turn meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from crestline.cooperative import SLICE, clear, slices, sort
from crestline.gateway.job_events import entity_tag
from crestline.gateway.routes.preencoded import encode_list
from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.job_cache import CachedJob, JobSource
from crestline.gateway.schedulers.job_views import JobViews
from crestline.gateway.schedulers.programs import ProgramOptions
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.wire.codec import encode
from crestline.wire.compute import JobInfo, JobsAnswer, JobStatus, JobTime

pytestmark = pytest.mark.anyio

SIZES = (0, 1, SLICE, SLICE + 1, 5 * SLICE + 7)


@asynccontextmanager
async def turns() -> AsyncIterator[list[int]]:
    """Counts how often another task gets the event loop."""
    count = [0]

    async def other_task() -> None:
        while True:
            count[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other_task())
    try:
        yield count
    finally:
        task.cancel()


def job(number: int, user: str) -> JobInfo:
    status = JobStatus(state="RUNNING")
    return JobInfo(job_id=str(number), name=f"job {number}", status=status, time=JobTime(submit=number % 97), user=user)


@pytest.mark.parametrize("size", SIZES)
async def test_slices_hold_all_items(size: int) -> None:
    found = [list(some) async for some in slices(range(size))]
    assert [each for some in found for each in some] == list(range(size))
    assert all(len(some) <= SLICE for some in found)


@pytest.mark.parametrize("size", SIZES)
async def test_order_is_that_of_sorted(size: int) -> None:
    items = [(random.Random(number).randrange(100), number) for number in range(size)]
    assert await sort(items, key=lambda item: item[0]) == sorted(items, key=lambda item: item[0])


@pytest.mark.parametrize("size", SIZES)
async def test_the_json_is_that_of_the_whole_message(size: int) -> None:
    jobs = [job(number, "alice") for number in range(size)]
    assert await encode_list("jobs", jobs) == encode(JobsAnswer(jobs=jobs))


async def test_every_job_counts_in_the_tag() -> None:
    jobs = [job(number, "alice") for number in range(3 * SLICE)]
    before = await entity_tag(jobs)
    assert await entity_tag([job(number, "alice") for number in range(3 * SLICE)]) == before
    jobs[-1] = job(7, "alice")
    assert await entity_tag(jobs) != before


async def test_nothing_is_left_in_a_list_that_is_let_go() -> None:
    items = list(range(3 * SLICE))
    await clear(items)
    assert items == []


class Queue(JobSource):
    """As many jobs as are asked for, half of them of one user."""

    def __init__(self, size: int) -> None:
        self.entries = [CachedJob(job(number, ("alice", "bob")[number % 2])) for number in reversed(range(size))]

    async def queue(self, user: str, owner: str | None, ids: object = None) -> list[CachedJob]:
        return list(self.entries)

    async def accounting(self, user: str, ids: object) -> list[CachedJob]:
        return []

    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        return []

    async def retention(self, user: str) -> float:
        return 300.0

    def family(self, job_id: str) -> str:
        return job_ids.family(job_id)

    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        return None


async def test_a_long_queue_lets_others_have_their_turn() -> None:
    size = 20 * SLICE
    views = JobViews(Queue(size), ProgramOptions(observer="observer"), job_ids.order)
    try:
        async with turns() as count:
            everybody = await views.jobs("alice", JobQuery(all_users=True))
            assert len(everybody) == size
            keys = [(each.time.submit or 0, int(each.job_id)) for each in everybody]
            assert keys == sorted(keys)
            assert count[0] > 3 * size / SLICE, "while jobs were chosen, sorted and put together"
            count[0] = 0
            await entity_tag(everybody)
            await encode_list("jobs", everybody)
            assert count[0] > size / SLICE
        mine = await views.jobs("alice", JobQuery())
        assert {each.user for each in mine} == {"alice"}
        assert len(mine) == size / 2
    finally:
        await views.close()
