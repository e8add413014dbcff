"""Slurm whose parts hang or are gone: what is certain is answered, the rest at once refused, and nothing hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.slurm import SlurmOptions, SlurmScheduler
from crestline.model import GatewayUnavailableError, normalize_state
from crestline.wire.compute import JobDescription
from harness.cluster import Cluster
from harness.container_commands import ContainerCommands
from harness.waiting import until, until_answered

pytestmark = pytest.mark.anyio

TIMEOUT = 4.0
PATIENCE = 120


@pytest.fixture
def commands(cluster: Cluster) -> ContainerCommands:
    return ContainerCommands(cluster)


@pytest.fixture
async def slurm(commands: ContainerCommands) -> AsyncIterator[SlurmScheduler]:
    options = SlurmOptions(timeout=TIMEOUT, submit_timeout=TIMEOUT, max_stale=0.0)
    scheduler = SlurmScheduler("test", commands, options)
    await scheduler.jobs("alice", JobQuery(window=3600))
    yield scheduler
    await scheduler.stop()


def describe(body: str) -> JobDescription:
    return JobDescription(working_directory="/scratch", script=f"#!/bin/bash\n{body}\n")


outages = pytest.mark.parametrize("broken", [Cluster.stopped, Cluster.paused])


async def recovered(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again, as pollers do, until there is an answer."""
    await until_answered(ask, GatewayUnavailableError, PATIENCE)


async def refused_in_time(ask: Callable[[], Awaitable[object]]) -> GatewayUnavailableError:
    async with asyncio.timeout(TIMEOUT * 6):  # a noisy machine; a hang would last for ever
        with pytest.raises(GatewayUnavailableError) as caught:
            await ask()
    assert caught.value.retry_after
    return caught.value


async def ended(slurm: SlurmScheduler, job_id: str) -> None:
    async def has_ended() -> bool:
        (job,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
        return normalize_state(job.status.state).is_terminal

    await until(has_ended, PATIENCE)


@outages
async def test_without_slurmdbd_the_queue_answers(
    slurm: SlurmScheduler, cluster: Cluster, broken: Callable[..., Iterator[None]]
) -> None:
    with broken(cluster, "slurmdbd"):
        key = f"outage/{time.time()}"
        job_id = await slurm.submit("alice", describe("#SBATCH --hold"), key)
        (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
        assert seen.status.state == "PENDING"
        listed = await slurm.jobs("alice", JobQuery(window=7 * 86400))
        assert job_id in {job.job_id for job in listed}
        assert await slurm.find("alice", key) == job_id
        await refused_in_time(lambda: slurm.jobs("alice", JobQuery(ids=("99999998",))))
        both = await slurm.jobs("alice", JobQuery(ids=(job_id, "99999998")))
        assert {job.job_id: job.status.state for job in both} == {job_id: "PENDING", "99999998": "UNKNOWN"}
        assert both.partial
        await refused_in_time(lambda: slurm.find("alice", "no such key"))
        fresh = SlurmScheduler("test", ContainerCommands(cluster), SlurmOptions(timeout=TIMEOUT))
        everything = await fresh.jobs("alice", JobQuery(window=7 * 86400))
        assert job_id in {job.job_id for job in everything}
        assert everything.partial
        await fresh.stop()
        await slurm.cancel("alice", job_id)
        (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
        assert seen.status.state.startswith("CANCELLED")

    async def absent() -> None:
        assert await slurm.jobs("alice", JobQuery(ids=("99999998",))) == []

    await recovered(absent)


@outages
async def test_without_slurmctld_only_what_has_ended_is_told(
    slurm: SlurmScheduler, commands: ContainerCommands, cluster: Cluster, broken: Callable[..., Iterator[None]]
) -> None:
    done = await slurm.submit("alice", describe("true"))
    await ended(slurm, done)
    held = await slurm.submit("alice", describe("#SBATCH --hold"))
    await slurm.jobs("alice", JobQuery(ids=(held,)))
    with broken(cluster, "slurmctld"):
        await asyncio.sleep(SlurmOptions().max_age)  # so old may an answer be
        await refused_in_time(lambda: slurm.jobs("alice", JobQuery(ids=(held,))))
        commands.ran.clear()
        answers = await asyncio.gather(
            *(slurm.jobs("alice", JobQuery(ids=(held,))) for _ in range(100)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {GatewayUnavailableError}
        assert sum(commands.ran.values()) <= 1  # known to be down: no request waits for a command
        (seen,) = await slurm.jobs("alice", JobQuery(ids=(done,)))
        assert seen.status.state == "COMPLETED"
        both = await slurm.jobs("alice", JobQuery(ids=(done, held)))
        assert {job.job_id: job.status.state for job in both} == {done: "COMPLETED", held: "UNKNOWN"}
        await refused_in_time(lambda: slurm.jobs("alice", JobQuery(window=3600)))
        await refused_in_time(lambda: slurm.submit("alice", describe("true")))
        await refused_in_time(lambda: slurm.cancel("alice", held))
        await refused_in_time(lambda: slurm.nodes("alice"))
        await refused_in_time(slurm.ping)
    await recovered(lambda: slurm.jobs("alice", JobQuery(ids=(held,))))
    await slurm.cancel("alice", held)


async def test_a_submission_during_a_hang_happens_once(slurm: SlurmScheduler, cluster: Cluster) -> None:
    key = f"hang/{time.time()}"
    with cluster.paused("slurmctld"):
        await refused_in_time(lambda: slurm.submit("alice", describe("#SBATCH --hold"), key))
        await refused_in_time(lambda: slurm.find("alice", key))
    found: list[str | None] = []

    async def look() -> None:
        found.append(await slurm.find("alice", key))

    await recovered(look)
    job_id = found[0] or await slurm.submit("alice", describe("#SBATCH --hold"), key)
    rows = cluster.check("alice", ["squeue", "--noheader", "--states=all", "--user=alice", "--format=%A %k"])
    tag = next(row.split()[1] for row in rows.splitlines() if row.split()[0] == job_id)
    assert [row.split()[0] for row in rows.splitlines() if tag in row] == [job_id]
    await slurm.cancel("alice", job_id)
