"""Shared answers: how few commands serve how many askers, and how old what they hear may be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.job_cache import CachedJob, JobCache, JobSource
from crestline.gateway.schedulers.job_views import JobViews
from crestline.gateway.schedulers.programs import ProgramOptions
from crestline.gateway.schedulers.single_flight_cache import BatchLoader, SingleFlightCache
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.model import GatewayUnavailableError
from crestline.wire.compute import JobInfo, JobStatus, JobTime
from harness.waiting import until_answered

pytestmark = pytest.mark.anyio

FOREVER = 3600.0


class Gate:
    """A fetch that ends when it is told to, with the number of the call."""

    def __init__(self) -> None:
        self.calls = 0
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self) -> int:
        self.calls += 1
        number = self.calls
        self.began.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_many_askers_share_one_fetch() -> None:
    gate = Gate()
    snapshot = SingleFlightCache(gate.fetch, max_age=FOREVER)
    askers = [asyncio.create_task(snapshot.get()) for _ in range(500)]
    await gate.began.wait()
    gate.open.set()
    assert await asyncio.gather(*askers) == [1] * 500
    assert await snapshot.get() == 1
    assert gate.calls == 1


async def test_a_value_serves_no_longer_than_its_age() -> None:
    gate = Gate()
    gate.open.set()
    snapshot = SingleFlightCache(gate.fetch, max_age=0.05)
    assert await snapshot.get() == 1
    await asyncio.sleep(0.06)
    assert await snapshot.get() == 2


async def test_a_fetch_that_began_before_my_change_is_not_for_me() -> None:
    gate = Gate()
    snapshot = SingleFlightCache(gate.fetch, max_age=FOREVER)
    early = asyncio.create_task(snapshot.get())
    await gate.began.wait()
    changed = time.monotonic()
    late = asyncio.create_task(snapshot.get(changed))
    await asyncio.sleep(0)
    gate.open.set()
    assert (await early, await late) == (1, 2)


async def test_who_asks_in_the_very_moment_of_the_answer_gets_it() -> None:
    late: list[asyncio.Task[int]] = []

    async def fetch() -> int:
        late.append(asyncio.create_task(snapshot.get()))  # its turn comes before any callback of this fetch's task
        return 7

    snapshot = SingleFlightCache(fetch, max_age=FOREVER)
    assert await snapshot.get() == 7
    assert await late[0] == 7


async def test_a_cancelled_asker_does_not_end_the_fetch_of_others() -> None:
    gate = Gate()
    snapshot = SingleFlightCache(gate.fetch, max_age=FOREVER)
    first, second = asyncio.create_task(snapshot.get()), asyncio.create_task(snapshot.get())
    await gate.began.wait()
    first.cancel()
    gate.open.set()
    assert await second == 1
    assert gate.calls == 1


async def test_callers_do_not_wait_after_a_failure_until_the_next_success() -> None:
    gate = Gate()
    gate.open.set()
    gate.error = GatewayUnavailableError("down", retry_after=2)
    snapshot = SingleFlightCache(gate.fetch, max_age=0.05)
    with pytest.raises(GatewayUnavailableError):
        await snapshot.get()
    gate.open.clear()  # the part hangs now
    for _ in range(20):
        with pytest.raises(GatewayUnavailableError) as caught:
            await asyncio.wait_for(snapshot.get(), 60)
    assert caught.value.retry_after == 2
    gate.error = None
    gate.open.set()
    assert await until_answered(snapshot.get, GatewayUnavailableError) >= 2


async def test_what_fails_at_once_is_not_asked_again_and_again() -> None:
    gate = Gate()
    gate.open.set()
    gate.error = GatewayUnavailableError("down")
    snapshot = SingleFlightCache(gate.fetch, max_age=FOREVER)
    for _ in range(100):
        with pytest.raises(GatewayUnavailableError):
            await snapshot.get()
        await asyncio.sleep(0)
    assert gate.calls == 1
    await snapshot.close()


async def test_a_fault_of_ours_reaches_the_asker() -> None:
    gate = Gate()
    gate.open.set()
    gate.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await SingleFlightCache(gate.fetch).get()


async def test_a_value_that_costs_much_is_served_until_it_is_too_old() -> None:
    gate = Gate()
    gate.open.set()
    snapshot = SingleFlightCache(gate.fetch, max_age=0.0, max_stale=FOREVER, pause=lambda value: 100.0 * value)
    assert [await snapshot.get() for _ in range(50)] == [1] * 50
    assert await snapshot.get(preferred=time.monotonic()) == 1
    assert (gate.calls, snapshot.is_costly) == (1, True)
    changed = time.monotonic()
    assert await snapshot.get(changed) == 2  # for a caller who changed something it is fetched all the same
    hasty = SingleFlightCache(gate.fetch, max_age=0.0, max_stale=0.0, pause=lambda _: 100.0)
    assert [await hasty.get(), await hasty.get()] == [3, 4]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "hangs"])
async def test_an_older_value_stands_in_for_one_that_is_late(fails: bool) -> None:
    gate = Gate()
    gate.open.set()
    snapshot = SingleFlightCache(gate.fetch, max_age=0.0, max_stale=FOREVER)
    assert await snapshot.get() == 1
    gate.error = GatewayUnavailableError("did not answer in time")
    assert await snapshot.get() == 1
    if not fails:
        gate.open.clear()
    assert [await asyncio.wait_for(snapshot.get(), 60) for _ in range(20)] == [1] * 20
    with pytest.raises(GatewayUnavailableError):
        await snapshot.get(time.monotonic())
    await snapshot.close()


class Answers:
    """Squares numbers; remembers what was asked together."""

    def __init__(self) -> None:
        self.asked: list[set[int]] = []
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, keys: set[int]) -> dict[int, int]:
        self.asked.append(set(keys))
        self.began.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return {key: key * key for key in keys if key >= 0}


async def test_look_ups_are_gathered() -> None:
    answers = Answers()
    batch = BatchLoader(answers.fetch, max_age=0.05)
    first = asyncio.create_task(batch.get([1]))
    await answers.began.wait()
    others = [asyncio.create_task(batch.get([number, -number])) for number in range(2, 100)]
    await asyncio.sleep(0)
    answers.open.set()
    assert await first == {1: 1}
    assert await asyncio.gather(*others) == [{number: number * number} for number in range(2, 100)]
    assert len(answers.asked) == 2


async def test_answers_to_look_ups_are_shared_while_they_are_fresh() -> None:
    answers = Answers()
    answers.open.set()
    batch = BatchLoader(answers.fetch, max_age=FOREVER)
    assert [await batch.get([3, -3]) for _ in range(50)] == [{3: 9}] * 50
    assert answers.asked == [{3, -3}]


async def test_a_failed_look_up_is_told_to_all_who_asked() -> None:
    answers = Answers()
    answers.open.set()
    answers.error = GatewayUnavailableError("down")
    batch = BatchLoader(answers.fetch, max_age=0.01)
    results = await asyncio.gather(*(batch.get([n]) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [GatewayUnavailableError] * 5
    answers.error = None
    assert await until_answered(lambda: batch.get([4]), GatewayUnavailableError) == {4: 16}


class FakeSlurm(JobSource):
    """A queue and an accounting in memory; counts how often each is asked."""

    def __init__(self) -> None:
        self.held: dict[str, CachedJob] = {}
        self.recorded: dict[str, CachedJob] = {}
        self.calls: Counter[str] = Counter()
        self.owners: Counter[str | None] = Counter()
        """whose jobs the queue was asked for; None: all"""
        self.queue_error: Exception | None = None
        self.accounting_error: Exception | None = None
        self.kept = FOREVER

    async def queue(self, user: str, owner: str | None, ids: Collection[str] | None = None) -> list[CachedJob]:
        self.calls["queue" if ids is None else "queue by id"] += 1
        self.owners[owner] += 1
        if self.queue_error:
            raise self.queue_error
        wanted = None if ids is None else {self.family(each) for each in ids}
        return [
            entry
            for entry in self.held.values()
            if (owner is None or entry.job.user == owner)
            and (wanted is None or self.family(entry.job.job_id) in wanted)
        ]

    async def accounting(self, user: str, ids: Collection[str]) -> list[CachedJob]:
        self.calls["accounting"] += 1
        if self.accounting_error:
            raise self.accounting_error
        return [e for e in self.recorded.values() if e.job.job_id in ids or self.family(e.job.job_id) in ids]

    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        self.calls["history"] += 1
        if self.accounting_error:
            raise self.accounting_error
        return [e for e in self.recorded.values() if owner is None or e.job.user == owner]

    async def retention(self, user: str) -> float:
        return self.kept

    def family(self, job_id: str) -> str:
        return job_ids.family(job_id)

    def is_collapsed_array(self, job_id: str) -> bool:
        return "[" in job_id

    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        return job(job_id, entry.job.status.state) if job_ids.holds(entry.job.job_id, job_id) else None

    def hold(self, *entries: CachedJob) -> None:
        self.held = {entry.job.job_id: entry for entry in entries}

    def record(self, *entries: CachedJob) -> None:
        self.recorded = {entry.job.job_id: entry for entry in entries}


def job(job_id: str, state: str, *, user: str = "alice", name: str = "n", end: int | None = None) -> CachedJob:
    ended = state in ("COMPLETED", "FAILED", "CANCELLED")
    return CachedJob(
        JobInfo(
            job_id=job_id,
            name=name,
            user=user,
            status=JobStatus(state=state),
            time=JobTime(end=(end or int(time.time())) if ended else None),
        )
    )


def states(jobs: list[JobInfo]) -> dict[str, str]:
    return {each.job_id: each.status.state for each in jobs}


@pytest.fixture
def slurm() -> FakeSlurm:
    return FakeSlurm()


@pytest.fixture
def book(slurm: FakeSlurm) -> JobCache:
    """Looks at the queue anew for every reader, so that tests need not wait."""
    return JobCache(slurm, "alice", "alice", max_age=0.0, max_stale=0.0)


async def test_the_queue_wins_over_accounting(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("1", "RUNNING"))
    slurm.record(job("1", "PENDING", name="allocation"))
    assert states(await book.by_ids(["1"])) == {"1": "RUNNING"}
    assert slurm.calls["accounting"] == 0
    slurm.record(job("1", "COMPLETED"))  # requeued: the queue has it again
    assert states(await book.recent("alice", 0)) == {"1": "RUNNING"}


async def test_polling_a_job_costs_one_look_at_the_queue_per_age(slurm: FakeSlurm) -> None:
    book = JobCache(slurm, "alice", "alice", max_age=FOREVER)
    slurm.hold(*(job(str(n), "RUNNING") for n in range(1000)))
    for n in range(1000):
        assert states(await book.by_ids([str(n)])) == {str(n): "RUNNING"}
    assert slurm.calls == {"queue": 1}


async def test_a_long_queue_is_listed_once_for_all_who_poll(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.gateway.schedulers.job_cache._PAUSE_PER_JOB", 1.0)
    book = JobCache(slurm, "observer", None, max_age=0.0, max_stale=FOREVER)
    users = ("alice", "bob", "carol")
    slurm.hold(*(job(str(n), "PENDING", user=users[n % 3]) for n in range(300)))
    for n in range(300):
        assert states(await book.by_ids([str(n)], preferred=time.monotonic())) == {str(n): "PENDING"}
        listed = await book.recent(users[n % 3], 0)
        assert len(listed) == 100
        assert listed.age > 0
    assert (slurm.calls["queue"], slurm.calls["queue by id"]) == (1, 0)

    # A caller who has changed something is told of these jobs alone, as they are now.
    slurm.hold(*(entry for entry in slurm.held.values() if entry.job.job_id != "3"), job("900", "RUNNING"))
    slurm.record(job("3", "CANCELLED"))
    changed = time.monotonic()
    assert states(await book.by_ids(["900"], changed)) == {"900": "RUNNING"}
    assert states(await book.by_ids(["3"], changed)) == {"3": "CANCELLED"}
    mine = await book.recent("alice", 0, changed)
    assert (len(mine), mine[-1].job_id, states(mine)["3"]) == (101, "900", "CANCELLED")
    assert (slurm.owners[None], slurm.calls["queue by id"]) == (3, 2)
    assert slurm.owners["alice"] == 1


async def test_looks_of_many_users_keep_to_the_rate(slurm: FakeSlurm) -> None:
    """At one look in ten seconds."""
    users = [f"user{number}" for number in range(1000)]
    slurm.hold(*(job(str(number), "RUNNING", user=user) for number, user in enumerate(users)))
    views = JobViews(slurm, ProgramOptions(max_age=0.0, max_stale=FOREVER, read_rate=0.1), job_ids.order)
    for _ in range(3):
        for number, user in enumerate(users):
            assert states(await views.jobs(user, JobQuery(ids=(str(number),)))) == {str(number): "RUNNING"}
    assert slurm.calls["queue"] == len(users)
    await views.close()


async def test_a_job_seen_to_end_in_the_queue_needs_no_accounting(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("1", "FAILED"))
    await book.by_ids(["1"])
    slurm.hold()
    assert states(await book.by_ids(["1"])) == {"1": "FAILED"}
    assert slurm.calls["accounting"] == 0


async def test_jobs_that_left_the_queue_are_asked_for_once(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("1", "RUNNING"), job("2", "RUNNING"))
    await book.by_ids(["1"])
    slurm.hold()
    slurm.record(job("1", "COMPLETED"), job("2", "FAILED"))
    for _ in range(5):
        assert states(await book.by_ids(["1", "2"])) == {"1": "COMPLETED", "2": "FAILED"}
    assert slurm.calls["accounting"] == 1


async def test_accounting_that_lags_takes_no_state_back(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("1", "RUNNING", name="real"))
    await book.by_ids(["1"])
    slurm.hold()
    slurm.record(job("1", "PENDING", name=""))
    (seen,) = await book.by_ids(["1"])
    assert (seen.status.state, seen.name) == ("RUNNING", "real")
    assert states(await book.recent("alice", 0)) == {"1": "RUNNING"}
    slurm.record(job("1", "COMPLETED", name="real"))
    assert states(await book.by_ids(["1"])) == {"1": "COMPLETED"}
    assert states(await book.recent("alice", 0)) == {"1": "COMPLETED"}


async def test_unknown_ids_are_left_out(slurm: FakeSlurm, book: JobCache) -> None:
    assert await book.by_ids(["404"]) == []


async def test_a_foreign_job_is_looked_up_in_the_queue_by_id(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("7", "RUNNING", user="bob"))
    slurm.record(job("7", "PENDING", user="bob"))
    assert states(await book.by_ids(["7"])) == {"7": "RUNNING"}
    assert slurm.calls == {"queue": 1, "queue by id": 1}


async def test_an_array_has_its_elements_from_everywhere(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("9_3", "RUNNING"), job("9_[4-6%2]", "PENDING"))
    slurm.record(job("9_1", "COMPLETED"), job("9_2", "FAILED"), job("9_3", "PENDING"))
    everything = {"9_1": "COMPLETED", "9_2": "FAILED", "9_3": "RUNNING", "9_[4-6%2]": "PENDING"}
    for _ in range(3):
        assert states(await book.by_ids(["9"])) == everything
    assert slurm.calls["accounting"] == 1
    assert states(await book.by_ids(["9_5"])) == {"9_5": "PENDING"}
    assert states(await book.by_ids(["9_2"])) == {"9_2": "FAILED"}
    slurm.hold(job("9_5", "RUNNING"))  # 3 and 4 left unseen, 6 was cancelled
    slurm.record(*(job(f"9_{n}", "COMPLETED") for n in (1, 3, 4)), job("9_2", "FAILED"), job("9_6", "CANCELLED"))
    assert states(await book.by_ids(["9"])) == {
        "9_1": "COMPLETED", "9_2": "FAILED", "9_3": "COMPLETED", "9_4": "COMPLETED", "9_5": "RUNNING",
        "9_6": "CANCELLED",
    }  # fmt: skip


async def test_a_window_shows_what_ended_in_it(slurm: FakeSlurm, book: JobCache) -> None:
    now = int(time.time())
    slurm.hold(job("5", "PENDING"), job("4", "COMPLETED", end=now - 7200))
    slurm.record(job("1", "COMPLETED", end=now - 7200), job("2", "FAILED", end=now - 60), job("3", "RUNNING"))
    assert states(await book.recent("alice", now - 3600)) == {"5": "PENDING", "2": "FAILED"}
    assert states(await book.recent("alice", now - 86400)) == {
        "5": "PENDING", "4": "COMPLETED", "2": "FAILED", "1": "COMPLETED",
    }  # fmt: skip
    asked = slurm.calls["history"]
    for _ in range(5):
        await book.recent("alice", now - 3600)
        await book.recent("alice", now - 86400)
    assert slurm.calls["history"] == asked


async def test_after_a_long_pause_history_is_asked_again(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.kept = 0.0  # any pause is too long
    await book.recent("alice", 0)
    slurm.record(job("1", "COMPLETED"))
    await asyncio.sleep(0.01)
    assert states(await book.recent("alice", 0)) == {"1": "COMPLETED"}


async def test_without_accounting_the_queue_still_answers(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.accounting_error = GatewayUnavailableError("slurmdbd is down")
    slurm.hold(job("1", "RUNNING"))
    listed = await book.recent("alice", 0)
    assert states(listed) == {"1": "RUNNING"}
    assert listed.partial == "slurmdbd is down"
    assert states(await book.by_ids(["1"])) == {"1": "RUNNING"}
    both = await book.by_ids(["1", "2"])
    assert states(both) == {"1": "RUNNING", "2": "UNKNOWN"}
    assert both.partial
    with pytest.raises(GatewayUnavailableError):
        await book.by_ids(["2"])


async def test_without_the_queue_accounting_answers_for_what_has_ended(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("3", "COMPLETED"), job("4", "RUNNING"))
    await book.by_ids(["3"])
    slurm.hold(job("4", "RUNNING"), job("5", "FAILED"))
    await book.by_ids(["4"])
    slurm.queue_error = GatewayUnavailableError("slurmctld is down")
    slurm.record(job("1", "COMPLETED"), job("2", "RUNNING"), job("4", "PENDING"))
    for job_id, state in {"1": "COMPLETED", "3": "COMPLETED", "5": "FAILED"}.items():
        alone = await book.by_ids([job_id])
        assert states(alone) == {job_id: state}
        assert not alone.partial
    both = await book.by_ids(["1", "2"])
    assert states(both) == {"1": "COMPLETED", "2": "UNKNOWN"}
    assert both.partial
    for job_id in ("2", "4"):  # what accounting, or we, last heard may be old
        with pytest.raises(GatewayUnavailableError):
            await book.by_ids([job_id])
    with pytest.raises(GatewayUnavailableError):
        await book.recent("alice", 0)
    slurm.queue_error = None
    await asyncio.sleep(0.01)
    with contextlib.suppress(GatewayUnavailableError):
        await book.by_ids(["4"])
    assert states(await book.by_ids(["4"])) == {"4": "RUNNING"}


async def test_an_outage_makes_no_array_look_ended(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.hold(job("9_1", "COMPLETED"), job("9_2", "RUNNING"))
    await book.by_ids(["9_1"])
    slurm.queue_error = GatewayUnavailableError("slurmctld is down")
    slurm.record(job("9_1", "COMPLETED"), job("9_2", "PENDING"))
    assert states(await book.by_ids(["9"])) == {"9_1": "COMPLETED", "9": "UNKNOWN"}
    slurm.record(job("7_1", "COMPLETED"), job("7_2", "FAILED"))
    assert states(await book.by_ids(["7"])) == {"7_1": "COMPLETED", "7_2": "FAILED"}
    slurm.accounting_error = GatewayUnavailableError("slurmdbd is down")
    with pytest.raises(GatewayUnavailableError):
        await book.by_ids(["6"])


async def test_without_accounting_an_array_may_have_more_elements(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.accounting_error = GatewayUnavailableError("slurmdbd is down")
    slurm.hold(job("9_2", "COMPLETED"))
    assert states(await book.by_ids(["9"])) == {"9_2": "COMPLETED", "9": "UNKNOWN"}
    assert states(await book.by_ids(["9_2"])) == {"9_2": "COMPLETED"}


async def test_ended_jobs_are_kept_within_bounds(
    slurm: FakeSlurm, book: JobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crestline.gateway.schedulers.job_cache._REMEMBERED", 10)
    slurm.record(*(job(str(n), "COMPLETED", end=n) for n in range(1, 101)))
    listed = await book.recent("alice", 0)
    assert len(listed) == 10
    assert listed.partial
    assert not (await book.recent("alice", 91)).partial
    assert states(await book.by_ids(["1"])) == {"1": "COMPLETED"}


async def test_a_job_that_accounting_never_hears_of_is_gone_after_a_while(
    slurm: FakeSlurm, book: JobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.hold(job("1", "RUNNING"))
    await book.by_ids(["1"])
    slurm.hold()
    assert states(await book.by_ids(["1"])) == {"1": "RUNNING"}
    monkeypatch.setattr("crestline.gateway.schedulers.job_cache._GRACE", -1.0)
    assert await book.by_ids(["1"]) == []
    assert await book.recent("alice", 0) == []


async def test_a_number_that_is_used_again_means_the_job_in_the_queue(slurm: FakeSlurm, book: JobCache) -> None:
    slurm.record(job("6", "COMPLETED"), job("7_1", "FAILED"))
    assert states(await book.by_ids(["6", "7"])) == {"6": "COMPLETED", "7_1": "FAILED"}
    slurm.hold(job("6_1", "RUNNING"), job("6_[2-3]", "PENDING"), job("7", "RUNNING"))
    assert states(await book.by_ids(["6", "7"])) == {"6_1": "RUNNING", "6_[2-3]": "PENDING", "7": "RUNNING"}
