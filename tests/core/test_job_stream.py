"""The monitor on a Crestline gateway: fed by its event stream, and by lists as soon as that says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

import crestline
from crestline.client import Capability, System
from crestline.model import GatewayUnavailableError, JobSpec, JobState, UnsupportedError
from crestline.testing.firecrest import running
from harness.cutting import Relay, relay_to
from harness.gateway import GatewayProcess, RunningGateway
from harness.ports import free_port
from harness.sites import BRISK, gateway_site, plain_site
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until

pytestmark = pytest.mark.anyio

S = JobState
HELD = JobSpec(script="#!/bin/sh\n#SBATCH --hold\ntrue\n", workdir="/tmp")
# A look at everything is what a stream saves: here only the stream can tell in time.
STREAMING = msgspec.structs.replace(
    BRISK,
    poll=msgspec.structs.replace(
        BRISK.poll, streaming_interval=600.0, stream_reconnect_delay=0.05, min_interval=0.05, max_interval=0.2
    ),
)


@pytest.fixture
def relay(gateway: RunningGateway) -> Iterator[Relay]:
    with relay_to(gateway.url) as relay:
        yield relay


@pytest.fixture
async def lab(gateway: RunningGateway, relay: Relay) -> AsyncIterator[System]:
    async with crestline.connect(gateway_site(gateway, url=relay.url), policy=STREAMING) as lab:
        yield lab


class Watch:
    """Collects the states of one job."""

    def __init__(self, lab: System, job: str) -> None:
        self.states: list[JobState] = []
        self.task = asyncio.create_task(self._collect(lab, job))

    async def _collect(self, lab: System, job: str) -> None:
        async for event in lab.watch(job):
            self.states.append(event.state)

    async def said(self, state: JobState) -> None:
        await until(lambda: self.task.done() or self.states[-1:] == [state])
        assert self.states[-1:] == [state]


async def told(lab: System, *jobs: str) -> None:
    """Until the stream has said something about all of them."""
    await until(lambda: all(lab.monitor._stream.covers(job) for job in jobs))


async def test_a_stream_takes_the_place_of_lists(lab: System) -> None:
    job = (await lab.submit(HELD)).job_id
    watch = Watch(lab, job)
    await told(lab, job)
    await watch.said(S.PENDING)
    lists = lab.monitor.list_requests
    await lab.cancel(job)
    await watch.said(S.CANCELLED)
    await watch.task
    assert lab.monitor.list_requests <= lists + 1  # one may have been on its way; without the stream it were many


async def test_an_answer_that_is_older_than_an_event_changes_nothing(
    lab: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await lab.submit(HELD)).job_id
    asked, release = asyncio.Event(), asyncio.Event()
    jobs = lab.backend.jobs.list

    async def late(*arguments: Any, **options: Any) -> Any:
        answer = await jobs(*arguments, **options)
        asked.set()
        await release.wait()
        return answer

    monkeypatch.setattr(lab.backend.jobs, "list", late)
    lab.monitor.snapshot(job)  # it is kept in mind after its end
    watch = Watch(lab, job)
    await asked.wait()
    await told(lab, job)
    await lab.cancel(job)
    await watch.said(S.CANCELLED)
    release.set()
    await until(lambda: lab.monitor._task is None or lab.monitor._task.done())
    assert lab.monitor.snapshot(job).state is S.CANCELLED


async def test_a_job_that_is_watched_while_the_monitor_comes_to_rest(
    lab: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (await lab.submit(HELD)).job_id, (await lab.submit(HELD)).job_id
    await lab.cancel(first)
    resting, release = asyncio.Event(), asyncio.Event()
    close = lab.monitor._stream.close

    async def slow() -> None:
        resting.set()
        await release.wait()
        await close()

    monkeypatch.setattr(lab.monitor._stream, "close", slow)
    await lab.wait(first)
    await resting.wait()
    watch = Watch(lab, second)
    await until(lambda: second in lab.monitor._entries)
    release.set()
    await watch.said(S.PENDING)
    await lab.cancel(second)
    await watch.said(S.CANCELLED)


async def test_many_jobs_share_one_stream(lab: System, relay: Relay) -> None:
    jobs = [(await lab.submit(HELD)).job_id for _ in range(20)]
    watches = [Watch(lab, job) for job in jobs]
    await told(lab, *jobs)
    opened = relay.heard.count(b"/jobs/events")
    for job in jobs:
        await lab.cancel(job)
    await asyncio.gather(*(watch.task for watch in watches))
    assert all(watch.states[-1] is S.CANCELLED for watch in watches)
    assert relay.heard.count(b"/jobs/events") == opened


async def test_a_job_that_is_watched_later_is_told_too(lab: System) -> None:
    first, second = (await lab.submit(HELD)).job_id, (await lab.submit(HELD)).job_id
    one = Watch(lab, first)
    await told(lab, first)
    two = Watch(lab, second)
    await told(lab, first, second)
    for job, watch in ((first, one), (second, two)):
        await lab.cancel(job)
        await watch.said(S.CANCELLED)


async def test_more_jobs_than_an_address_holds(lab: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.client.job_stream._NAMED", 2)
    jobs = [(await lab.submit(HELD)).job_id for _ in range(4)]
    watches = [Watch(lab, job) for job in jobs]
    await told(lab, *jobs)
    for job in jobs:
        await lab.cancel(job)
    await asyncio.gather(*(watch.task for watch in watches))


async def test_an_array_ends_when_all_of_it_has(lab: System) -> None:
    script = "#!/bin/sh\n#SBATCH --array=1-3\ntrue\n"
    job = await lab.submit(JobSpec(script=script, workdir="/tmp"))
    assert (await lab.wait(job)).state is S.COMPLETED


async def test_a_stream_that_is_cut_again_and_again_loses_nothing(lab: System, relay: Relay) -> None:
    job = (await lab.submit(HELD)).job_id
    watch = Watch(lab, job)
    await told(lab, job)
    for _ in range(5):
        relay.cut_all()
        await told(lab, job)
    relay.cut_all()
    await lab.cancel(job)
    await watch.said(S.CANCELLED)
    assert set(watch.states) <= {S.PENDING, S.UNKNOWN, S.CANCELLED}


async def test_a_stream_that_is_opened_again_is_logged(
    lab: System, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="crestline.client.job_stream")
    watch = Watch(lab, (await lab.submit(HELD)).job_id)
    await watch.said(S.PENDING)

    def openings() -> int:
        return sum(each.getMessage() == f"Listening to job events from {relay.url}" for each in caplog.records)

    await until(lambda: openings() == 1)
    relay.cut_all()
    await until(lambda: openings() == 2)
    assert f"No job events from {relay.url}, asking instead: " in caplog.text
    watch.task.cancel()


async def test_a_gateway_that_is_killed_is_unknown_and_its_return_is_heard(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    gateway = GatewayProcess(tmp_path_factory.mktemp("killed") / "home", free_port())
    gateway.start()
    try:
        async with crestline.connect(gateway_site(gateway), policy=STREAMING) as lab:
            job = (await lab.submit(HELD)).job_id
            watch = Watch(lab, job)
            await told(lab, job)
            gateway.kill()
            await watch.said(S.UNKNOWN)
            gateway.start()
            await watch.said(S.PENDING)
            await told(lab, job)
            await lab.cancel(job)
            await watch.said(S.CANCELLED)
    finally:
        gateway.stop()


async def test_a_gateway_that_stops_does_not_wait_for_streams(tmp_path_factory: pytest.TempPathFactory) -> None:
    gateway = GatewayProcess(tmp_path_factory.mktemp("stopped") / "home", free_port())
    gateway.start()
    async with crestline.connect(gateway_site(gateway), policy=STREAMING) as lab:
        job = (await lab.submit(HELD)).job_id
        events = lab.backend.jobs.events([job])
        assert (await anext(events)).job is not None
        await lab.cancel(job)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        with contextlib.suppress(GatewayUnavailableError):
            async for _ in events:
                pass
        await stopping


async def test_without_the_feature_lists_do(gateway: RunningGateway) -> None:
    async with crestline.connect(gateway_site(gateway), policy=BRISK) as lab:
        lab.backend.capabilities = lab.backend.capabilities - {Capability.JOB_EVENTS}
        job = await lab.submit(JobSpec(script="#!/bin/sh\ntrue\n", workdir="/tmp"))
        assert (await lab.wait(job)).state is S.COMPLETED
        assert lab.monitor.list_requests
        with pytest.raises(UnsupportedError):
            await anext(lab.backend.jobs.events(None))
        lab.backend.capabilities = lab.backend.capabilities | {Capability.JOB_EVENTS}  # the connection is shared


async def test_real_slurm_is_streamed_too(slurm_gateway: SlurmGateway) -> None:
    client_id, secret = slurm_gateway.client_of("alice")
    site = gateway_site(slurm_gateway, client_id=client_id, client_secret=secret)
    async with crestline.connect(site, policy=STREAMING) as lab:
        job = (await lab.submit(JobSpec(script="#!/bin/sh\n#SBATCH --hold\ntrue\n", workdir="/home/alice"))).job_id
        watch = Watch(lab, job)
        await told(lab, job)
        lists = lab.monitor.list_requests
        await lab.cancel(job)
        await watch.said(S.CANCELLED)
        assert lab.monitor.list_requests <= lists + 1  # one may have been on its way; without the stream it were many


async def test_plain_firecrest_is_never_asked_for_a_stream() -> None:
    with running(kill_wait=0.2) as plain:
        async with crestline.connect(plain_site(plain), policy=STREAMING) as lab:
            job = await lab.submit(JobSpec(script="#!/bin/bash\ntrue\n", workdir=str(plain.home)))
            assert (await lab.wait(job)).state is S.COMPLETED
        assert not any("events" in seen.path for seen in plain.requests)
