"""One watcher for all: what it asks for, what it tells, and what it never concludes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

import crestline
from crestline.client import Policy, PollPolicy, System
from crestline.client.monitor import JobMonitor
from crestline.client.submission_lookup import SubmissionLookup
from crestline.clock import use_clocks
from crestline.model import (
    CrestlineError,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobSpec,
    JobState,
    WaitTimeoutError,
)
from crestline.testing.firecrest import PlainFirecrest, running
from crestline.testing.firecrest.scheduler import Order
from crestline.testing.simulation import VirtualEventLoop
from harness.gateway import RunningGateway
from harness.sites import BRISK, gateway_site, plain_site
from harness.waiting import until

pytestmark = pytest.mark.anyio

S = JobState
QUICK = "#!/bin/bash\ntrue\n"
SLEEP = "#!/bin/bash\nsleep 60\n"
HELD = "#!/bin/bash\n#SBATCH --hold\ntrue\n"
PATIENT = msgspec.structs.replace(
    BRISK, poll=msgspec.structs.replace(BRISK.poll, missing_timeout=60.0, unseen_timeout=None)
)


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running(kill_wait=0.2, cpus_per_node=16) as plain:
        yield plain


@pytest.fixture
async def lab(plain: PlainFirecrest) -> AsyncIterator[System]:
    async with crestline.connect(plain_site(plain), policy=PATIENT) as lab:
        yield lab


def start(plain: PlainFirecrest, script: str = SLEEP, name: str | None = None) -> str:
    return plain.scheduler.submit(Order(script, plain.home, name=name), plain.user)


def lists(plain: PlainFirecrest) -> int:
    return plain.count("GET", "/jobs")


def lookups(plain: PlainFirecrest) -> int:
    return sum(seen.method == "GET" and "/jobs/" in seen.path for seen in plain.requests)


class Told:
    """Collects the events of one watch."""

    def __init__(self, lab: System, job: Job | str) -> None:
        self.states: list[JobState] = []
        self.reasons: list[str] = []
        self.task = asyncio.create_task(self._collect(lab, job))

    async def _collect(self, lab: System, job: Job | str) -> None:
        async for event in lab.watch(job):
            self.states.append(event.state)
            self.reasons.append(event.reason)

    async def said(self, state: JobState) -> None:
        await until(lambda: self.task.done() or self.states[-1:] == [state])
        assert self.states[-1:] == [state]


# one list for all


async def test_1000_jobs_cost_one_list_per_interval(plain: PlainFirecrest) -> None:
    policy = msgspec.structs.replace(
        PATIENT,
        poll=PollPolicy(min_interval=0.5, max_interval=0.5, max_duty_cycle=1.0, jitter=0.0, unseen_timeout=None),
    )
    ids = [start(plain, HELD) for _ in range(1000)]
    async with crestline.connect(plain_site(plain), policy=policy) as lab:
        began = time.monotonic()
        waiting = [asyncio.create_task(lab.wait(job_id)) for job_id in ids]
        await until(lambda: lists(plain) >= 3)
        for job_id in ids:
            plain.scheduler.end(job_id, "COMPLETED")
        done = await asyncio.gather(*waiting)
        rounds = (time.monotonic() - began) / 0.5 + 1
    assert {job.state for job in done} == {S.COMPLETED}
    assert [job.job_id for job in done] == ids
    assert 3 < lists(plain) <= rounds
    assert lookups(plain) == 0


@pytest.mark.parametrize(("slow", "lists_in_a_minute"), [(1, range(15, 30)), (99, range(1, 4))])
def test_one_slow_list_does_not_delay_the_next_ones(slow: int, lists_in_a_minute: range) -> None:
    """A process that starts may block its event loop for long; only lists that stay slow are asked for less often."""
    loop = VirtualEventLoop()
    asked: list[float] = []

    class Jobs:
        async def list(self, _: object, *, retry: bool) -> list[Job]:
            asked.append(loop.time())
            await asyncio.sleep(12 if len(asked) <= slow else 0.01)
            return [Job(job_id="1", state=S.RUNNING)]

    backend = SimpleNamespace(jobs=Jobs(), capabilities=frozenset(), system_name="lab", gateway_url="")
    policy = PollPolicy(min_interval=2.0, max_duty_cycle=0.1, jitter=0.0, unseen_timeout=None)

    async def watch() -> None:
        monitor = JobMonitor(cast(Any, backend), SubmissionLookup(cast(Any, backend)), policy)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(72):
                await monitor.wait("1")
        await monitor.close()

    with use_clocks(loop.time, loop.time):
        loop.run_until_complete(watch())
    loop.close()
    assert len([at for at in asked if at >= asked[0] + 12]) in lists_in_a_minute


async def test_no_requests_without_watchers(lab: System, plain: PlainFirecrest) -> None:
    await lab.wait(start(plain, QUICK))
    asked = lists(plain)
    await asyncio.sleep(0.5)
    assert lists(plain) == asked


async def test_connections_share_the_monitor(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    async with crestline.connect(plain_site(plain), policy=PATIENT) as second:
        assert second.monitor is lab.monitor
        assert plain.count("GET", "/systems") == 1
        told = Told(second, job_id)
        await told.said(S.RUNNING)
    first = asyncio.create_task(lab.wait(job_id))
    plain.scheduler.end(job_id, "TIMEOUT")
    assert (await first).state is S.TIMEOUT
    async with crestline.connect(
        plain_site(plain, client_id=plain.second_client[0], client_secret=plain.second_client[1]), policy=PATIENT
    ) as other:
        assert other.monitor is not lab.monitor


async def test_closing_the_connection_ends_all_waits(plain: PlainFirecrest) -> None:
    async with crestline.connect(plain_site(plain), policy=PATIENT) as lab:
        told = Told(lab, start(plain))
        await told.said(S.RUNNING)
    with pytest.raises(CrestlineError, match="closed"):
        await told.task
    with pytest.raises(RuntimeError):
        lab.watch("1")


def test_intervals_grow_with_silence_and_cost() -> None:
    policy = PollPolicy()
    assert policy.interval(quiet=0, cost=0) == policy.min_interval
    assert policy.interval(quiet=50, cost=0) == pytest.approx(5)
    assert policy.interval(quiet=1e6, cost=0) == policy.max_interval
    assert policy.interval(quiet=0, cost=3) == pytest.approx(15)


# what it tells


async def test_states_as_they_come(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    told = Told(lab, Job(job_id=job_id, state=S.SUBMITTED))
    await told.said(S.RUNNING)
    for raw, state in (
        ("CONFIGURING", S.CONFIGURING),
        ("SUSPENDED", S.SUSPENDED),
        ("PREEMPTING?", S.UNKNOWN),
        ("RUNNING", S.RUNNING),
        ("COMPLETING", S.COMPLETING),
    ):
        plain.scheduler.show_as(job_id, raw)
        await told.said(state)
    plain.scheduler.show_as(job_id, None)
    await lab.cancel(job_id)
    await told.task
    assert told.states[0] is S.SUBMITTED
    assert told.states[-1] is S.CANCELLED


@pytest.mark.parametrize("raw", ["FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "CANCELLED by 1001"])
async def test_every_end_is_an_end(lab: System, plain: PlainFirecrest, raw: str) -> None:
    job_id = start(plain)
    waiting = asyncio.create_task(lab.wait(job_id))
    plain.scheduler.end(job_id, raw)
    job = await waiting
    assert job.raw_state == raw
    with pytest.raises(JobFailedError, match=job_id) as caught:
        await lab.wait(job_id, check=True)
    assert caught.value.job == job


async def test_a_requeued_job_goes_on(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    told = Told(lab, job_id)
    await told.said(S.RUNNING)
    plain.settings.start_delay = 1e6
    plain.scheduler.requeue(job_id)
    await told.said(S.PENDING)
    plain.settings.start_delay = 0.0
    await told.said(S.RUNNING)
    plain.scheduler.end(job_id, "COMPLETED")
    await told.task


async def test_stale_and_nameless_jobs(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.stale_pending = 0.4
    plain.faults.allocation_window = 0.3
    assert (await lab.wait(start(plain, QUICK))).state is S.COMPLETED


async def test_waiting_has_an_end(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    with pytest.raises(WaitTimeoutError, match=job_id):
        await lab.wait(job_id, timeout=0.3)
    assert not plain.jobs(job_id)[0].is_over


async def test_an_array_is_over_when_all_of_it_is(lab: System, plain: PlainFirecrest) -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-3%2\n[ $SLURM_ARRAY_TASK_ID = 3 ] && exit 9; sleep 0.2\n"
    job_id = start(plain, script)
    whole, last = await asyncio.gather(lab.wait(job_id), lab.wait(f"{job_id}_3"))
    assert (whole.job_id, whole.state, whole.exit_code) == (job_id, S.FAILED, 9)
    assert (last.job_id, last.state) == (f"{job_id}_3", S.FAILED)
    assert all(job.is_over for job in plain.jobs(job_id))


ARRAY_WITH_A_FAILURE = "#!/bin/bash\n#SBATCH --array=0-3\n[ $SLURM_ARRAY_TASK_ID = 1 ] && exit 6; true\n"


async def test_a_nameless_row_decides_nothing(lab: System, plain: PlainFirecrest) -> None:
    """For seconds the accounting shows the last element of an array only, and that under the array's own id."""
    plain.faults.accounting_lag = 1.0
    ids = [start(plain, ARRAY_WITH_A_FAILURE) for _ in range(6)]
    done = await asyncio.gather(*(lab.wait(job_id) for job_id in ids))
    assert [(job.state, job.exit_code) for job in done] == [(S.FAILED, 6)] * 6
    plain.faults.accounting_lag = 1e6
    job_id = start(plain, ARRAY_WITH_A_FAILURE)
    await until(lambda: all(job.is_over for job in plain.jobs(job_id)))
    for job in (await lab.job(job_id), *[each for each in await lab.jobs() if each.job_id == job_id]):
        assert (job.job_id, job.state, job.exit_code) == (job_id, S.RUNNING, None)


async def test_a_clock_that_is_wrong_makes_no_nameless_row_final(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.accounting_lag = 1e6
    job_id = start(plain, ARRAY_WITH_A_FAILURE)
    await until(lambda: all(job.is_over for job in plain.jobs(job_id)))
    with use_clocks(time.monotonic, lambda: time.time() + 1200):
        assert (await lab.job(job_id)).state is S.RUNNING


async def test_an_array_has_not_ended_before_all_its_elements_are_shown(lab: System, plain: PlainFirecrest) -> None:
    """An element that ended before the accounting learnt its name is in no row for some seconds."""
    job_id = start(plain, ARRAY_WITH_A_FAILURE)
    await until(lambda: all(job.is_over for job in plain.jobs(job_id)))
    started = plain.jobs(f"{job_id}_1")[0].started
    assert started is not None
    for job in plain.jobs(job_id):
        job.started = started if job.task == 1 else started - 3600
    plain.faults.accounting_lag = 1800
    assert f"{job_id}_1" not in {job.job_id for job in await lab.jobs()}
    assert (await lab.job(job_id)).state is S.RUNNING
    plain.faults.accounting_lag = 0
    assert (await lab.job(job_id)).state is S.FAILED


async def test_elements_under_ids_of_their_own_keep_an_array_running(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.accounting_lag = 1e6
    script = "#!/bin/bash\n#SBATCH --array=0-1\n[ $SLURM_ARRAY_TASK_ID = 1 ] || while [ ! -e go ]; do sleep 0.1; done\n"
    job_id = start(plain, script)
    await until(lambda: plain.jobs(f"{job_id}_1")[0].is_over)
    found = await lab.job(job_id)
    assert (found.job_id, found.state, found.name) == (job_id, S.RUNNING, "sbatch")
    plain.faults.accounting_lag = 0
    waiting = asyncio.create_task(lab.wait(job_id))
    listed = lists(plain)
    await until(lambda: lists(plain) >= listed + 3)
    assert not waiting.done()
    (plain.home / "go").touch()
    assert (await waiting).state is S.COMPLETED
    assert [each.job_id for each in await lab.array_tasks(job_id)] == [f"{job_id}_0", f"{job_id}_1"]


async def test_the_rest_of_an_array_that_waits_is_not_the_array(lab: System, plain: PlainFirecrest) -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-2%1\nwhile [ ! -e go ]; do sleep 0.1; done\n"
    job_id = start(plain, script)
    told = Told(lab, job_id)
    await told.said(S.RUNNING)
    assert (await lab.job(job_id)).state is S.RUNNING
    (plain.home / "go").touch()
    await told.task
    assert told.states[-1] is S.COMPLETED


async def test_a_nameless_row_of_long_ago_is_all_there_will_be(lab: System, plain: PlainFirecrest) -> None:
    """Where the accounting has lost a job's beginning, its end counts after a while."""
    plain.faults.accounting_lag = 1e6
    job_id = start(plain, "#!/bin/bash\nexit 3\n")
    await until(lambda: plain.jobs(job_id)[0].is_over)
    assert (await lab.job(job_id)).state is S.RUNNING
    plain.scheduler.age(job_id, 700)
    done = await lab.wait(job_id)
    assert (done.state, done.exit_code) == (S.FAILED, 3)


async def test_the_output_of_each_element_is_found(lab: System, plain: PlainFirecrest) -> None:
    """Plain FirecREST tells the paths of one element for the array, and while any waits those of none."""
    script = "#!/bin/bash\n#SBATCH --array=0-4:2%1\n{}while [ ! -e go ]; do sleep 0.1; done\n"
    there = f"{plain.home}/"
    for line, names in (
        ("", ["slurm-{}_0.out", "slurm-{}_2.out", "slurm-{}_4.out"]),
        ("#SBATCH -o run-%a.txt\n", ["run-0.txt", "run-2.txt", "run-4.txt"]),
        ("#SBATCH -o all.txt\n", ["all.txt"] * 3),
        ("#SBATCH -o own-%j.txt\n", [None, None, "own-{}.txt"]),
    ):
        job_id = start(plain, script.format(line))
        await until(lambda job_id=job_id: any(job.started for job in plain.jobs(job_id)))
        expected = [name and there + name.format(job_id) for name in names]
        assert (await lab.metadata(f"{job_id}_0")).stdout == expected[0]
        (plain.home / "go").touch()
        await lab.wait(job_id)
        (plain.home / "go").unlink()
        assert [(await lab.metadata(f"{job_id}_{index}")).stdout for index in (0, 2, 4)] == expected
        assert [each.job_id for each in await lab.array_tasks(job_id)] == [f"{job_id}_{index}" for index in (0, 2, 4)]


# errors and absence


async def test_an_outage_is_unknown_and_never_the_end(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    told = Told(lab, job_id)
    await told.said(S.RUNNING)
    plain.down()
    await told.said(S.UNKNOWN)
    assert "does not answer" in told.reasons[-1]
    assert lab.monitor.snapshot(job_id).state is S.RUNNING  # as last seen
    assert lab.monitor.error is not None
    plain.up()
    await told.said(S.RUNNING)
    assert lab.monitor.error is None
    plain.scheduler.end(job_id, "COMPLETED")
    await told.task


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 503])
async def test_no_error_ends_a_watch(lab: System, plain: PlainFirecrest, status: int) -> None:
    job_id = start(plain)
    told = Told(lab, job_id)
    await told.said(S.RUNNING)
    plain.faults.fail(status, path="/jobs", count=None)
    await told.said(S.UNKNOWN)
    plain.faults.reset()
    await told.said(S.RUNNING)
    told.task.cancel()


async def test_garbage_is_unknown(lab: System, plain: PlainFirecrest) -> None:
    told = Told(lab, start(plain))
    await told.said(S.RUNNING)
    plain.faults.garble(path="/jobs", count=None)
    await told.said(S.UNKNOWN)
    told.task.cancel()


async def test_a_fresh_job_may_be_invisible(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.fresh_job_404 = 1.0
    job = await lab.wait(start(plain, QUICK))
    assert job.state is S.COMPLETED
    assert lookups(plain) > 0


def polling(**changes: float) -> Policy:
    return msgspec.structs.replace(BRISK, poll=msgspec.structs.replace(BRISK.poll, **changes))


@pytest.mark.parametrize(("job", "looks"), [(Job(job_id="4711", state=S.SUBMITTED), 5), ("4711", 2)])
async def test_gone_needs_more_than_one_look(job: Job | str, looks: int, plain: PlainFirecrest) -> None:
    async with crestline.connect(plain_site(plain), policy=polling(missing_timeout=0.0, missing_checks=5)) as lab:
        with pytest.raises(JobNotFoundError, match="4711"):
            await lab.wait(job)
        assert lookups(plain) == looks
        with pytest.raises(JobNotFoundError):
            lab.monitor.snapshot("4711")


async def test_an_unknown_id_is_looked_up_twice_and_an_own_one_until_it_shows(plain: PlainFirecrest) -> None:
    """With the default settings: an id given as text is a wrong one, unless this connection has submitted it."""
    async with crestline.connect(plain_site(plain)) as lab:
        with pytest.raises(JobNotFoundError, match="4711"):
            await lab.wait("4711")
        assert lookups(plain) == 2
        plain.faults.fresh_job_404 = 1e6
        job = await lab.submit(JobSpec(script=QUICK, workdir=str(plain.home)))
        waiting = asyncio.ensure_future(lab.wait(job.job_id))
        await until(lambda: lookups(plain) >= 2 + 3)
        assert not waiting.done()
        plain.faults.fresh_job_404 = 0
        assert (await waiting).state is S.COMPLETED


async def test_absence_that_is_interrupted_by_an_outage_is_not_gone(plain: PlainFirecrest) -> None:
    plain.faults.fresh_job_404 = 1e6
    async with crestline.connect(plain_site(plain), policy=polling(missing_timeout=2.0, missing_checks=2)) as lab:
        told = Told(lab, start(plain))
        await until(lambda: lookups(plain) >= 1)
        plain.down()
        await told.said(S.UNKNOWN)
        plain.faults.fresh_job_404 = 0
        plain.up()
        await told.said(S.RUNNING)
        told.task.cancel()


async def test_absence_does_not_add_up(plain: PlainFirecrest) -> None:
    async with crestline.connect(plain_site(plain), policy=polling(missing_timeout=0.0, missing_checks=12)) as lab:
        told = Told(lab, start(plain))
        await told.said(S.RUNNING)
        for _ in range(8):
            asked = lookups(plain)
            plain.faults.fresh_job_404 = 1e6
            await until(lambda asked=asked: lookups(plain) >= asked + 2)
            plain.faults.fresh_job_404 = 0
            listed = lists(plain)
            await until(lambda listed=listed: lists(plain) >= listed + 2)
        assert not told.task.done()
        told.task.cancel()


async def test_an_error_is_no_absence(plain: PlainFirecrest) -> None:
    plain.faults.list_omits = ".*"
    async with crestline.connect(plain_site(plain), policy=polling(missing_timeout=0.0, missing_checks=2)) as lab:
        told = Told(lab, start(plain))
        await told.said(S.RUNNING)
        plain.faults.fail(500, path="/jobs/", count=None)
        await until(lambda: lookups(plain) >= 10)
        assert told.states[-1] is S.UNKNOWN
        plain.faults.reset()
        await told.said(S.RUNNING)
        told.task.cancel()


@pytest.mark.parametrize("job_id", ["", "1;id", "../systems", "1/2", "a b"])
async def test_invalid_job_id(lab: System, plain: PlainFirecrest, job_id: str) -> None:
    plain.requests.clear()
    for ask in (lab.wait, lab.job, lab.cancel, lab.metadata):
        with pytest.raises(InvalidRequestError):
            await ask(job_id)
    assert plain.requests == []


# lists that lack something, or cannot be had


async def test_what_the_list_misses_is_asked_for_by_id(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.list_omits = "hidden"
    hidden = [start(plain, QUICK, name="hidden") for _ in range(20)]
    shown = [start(plain, QUICK) for _ in range(20)]
    done = await asyncio.gather(*(lab.wait(job_id) for job_id in hidden + shown))
    assert {job.state for job in done} == {S.COMPLETED}
    asked = {seen.path.rpartition("/")[2] for seen in plain.requests if "/jobs/" in seen.path}
    assert asked == set(hidden)


async def test_an_array_of_which_the_list_shows_a_part(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.list_omits = ".*_1"
    script = "#!/bin/bash\n#SBATCH --array=0-1\nwhile [ $SLURM_ARRAY_TASK_ID = 1 -a ! -e go ]; do sleep 0.1; done\n"
    job_id = start(plain, script)
    waiting = asyncio.create_task(lab.wait(job_id))
    await until(lambda: plain.jobs(f"{job_id}_0")[0].is_over)
    listed = lists(plain)
    await until(lambda: lists(plain) >= listed + 3)
    assert not waiting.done()
    (plain.home / "go").touch()
    assert (await waiting).state is S.COMPLETED


async def test_jobs_with_dependencies_missing_from_the_list(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.list_omits_dependent = True
    first = start(plain, "#!/bin/bash\nsleep 0.5\n")
    second = start(plain, f"#!/bin/bash\n#SBATCH --dependency=afterok:{first}\ntrue\n")
    assert (await lab.wait(second)).state is S.COMPLETED


@pytest.mark.parametrize("switch", ["list_413_above", "list_408_above"])
async def test_a_list_that_is_too_long(lab: System, plain: PlainFirecrest, switch: str) -> None:
    setattr(plain.faults, switch, 5)
    ids = [start(plain, HELD) for _ in range(20)]
    waiting = [asyncio.create_task(lab.wait(job_id)) for job_id in ids]
    await until(lambda: lookups(plain) >= 20)
    for job_id in ids:
        plain.scheduler.end(job_id, "COMPLETED")
    assert {job.state for job in await asyncio.gather(*waiting)} == {S.COMPLETED}
    assert any("time_window=1h" in seen.query for seen in plain.requests)
    assert lists(plain) < lookups(plain) / 4


async def test_a_list_that_is_short_enough_in_a_narrow_window(lab: System, plain: PlainFirecrest) -> None:
    for _ in range(10):
        old = start(plain, QUICK)
        await until(lambda old=old: plain.jobs(old)[0].is_over)
        plain.scheduler.age(old, 7200)
    plain.faults.list_413_above = 5
    job_id = start(plain)
    told = Told(lab, job_id)
    await told.said(S.RUNNING)
    assert lookups(plain) == 0
    told.task.cancel()


async def test_a_list_spoilt_by_a_name(lab: System, plain: PlainFirecrest) -> None:
    start(plain, name="a|b")
    done = await asyncio.gather(*(lab.wait(start(plain, QUICK)) for _ in range(5)))
    assert {job.state for job in done} == {S.COMPLETED}


# snapshots


async def test_snapshots_cost_nothing(lab: System, plain: PlainFirecrest) -> None:
    job_id = start(plain)
    assert lab.monitor.snapshot(job_id).state is S.UNKNOWN
    await until(lambda: lab.monitor.snapshot(job_id).state is S.RUNNING)
    asked = lists(plain) + lookups(plain)
    for _ in range(10_000):
        lab.monitor.snapshot(job_id)
    assert lists(plain) + lookups(plain) <= asked + 1
    plain.scheduler.end(job_id, "FAILED", exit_code=3)
    await until(lambda: lab.monitor.snapshot(job_id).is_finished)
    assert lab.monitor.snapshot(job_id).exit_code == 3


async def test_jobs_without_watchers_are_forgotten(plain: PlainFirecrest) -> None:
    policy = msgspec.structs.replace(PATIENT, poll=msgspec.structs.replace(PATIENT.poll, idle_ttl=0.3))
    async with crestline.connect(plain_site(plain), policy=policy) as lab:
        lab.monitor.snapshot(start(plain))
        await until(lambda: lists(plain) >= 1)
        await until(lambda: lab.monitor._task is None or lab.monitor._task.done())
        assert lab.monitor._active(time.monotonic()) == []


# a Crestline gateway


async def test_a_list_of_just_these_jobs(gateway: RunningGateway) -> None:
    async with crestline.connect(gateway_site(gateway), policy=PATIENT) as local:
        jobs = [await local.submit(JobSpec(script=f"#!/bin/sh\nexit {code}\n")) for code in (0, 4)]
        done = await asyncio.gather(*(local.wait(job) for job in jobs))
        assert [job.exit_code for job in done] == [0, 4]
        assert local.monitor.id_requests == 0
        array = await local.submit(JobSpec(script="#!/bin/sh\nexit $SLURM_ARRAY_TASK_ID\n", array="0-1"))
        whole = await local.wait(array)
        assert whole.state is S.FAILED
        assert (await local.wait(f"{array.job_id}_0")).state is S.COMPLETED
