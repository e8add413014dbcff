"""Which job starts when: queue, arrays and dependencies, with real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.model import InvalidRequestError, JobNotFoundError
from harness.local_scheduler import USER, Bench, bench, nodes

pytestmark = pytest.mark.anyio


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, nodes("n1", cpus=2)) as running:
        yield running


def until_file(name: str) -> str:
    """A command that waits for a file."""
    return f"while [ ! -e {name} ]; do sleep 0.01; done"


async def test_first_come_first_served(local: Bench) -> None:
    first = await local.submit(until_file("go"))
    wide = await local.submit("#!/bin/sh\n#SBATCH -n 2\necho wide >> order\n")
    small = await local.submit("echo small >> order")
    await local.state(first, "RUNNING")
    await local.reason(wide, "Resources")
    await local.reason(small, "Priority")
    local.file("go").touch()
    await local.end(small)
    assert local.file("order").read_text() == "wide\nsmall\n"


async def test_exclusive(local: Bench) -> None:
    info = await local.submit(f"#!/bin/sh\n#SBATCH --exclusive\n{until_file('go')}\necho $SLURM_CPUS_ON_NODE > cpus\n")
    other = await local.submit("echo x")
    await local.reason(other, "Resources")
    local.file("go").touch()
    await local.end(other)
    assert local.file("cpus").read_text() == "2\n"
    assert (await local.info(info)).status.state == "COMPLETED"


async def test_an_array(local: Bench) -> None:
    lines = "#SBATCH --array=1-5:2,8\n#SBATCH -J many\n"
    names = "$SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MIN $SLURM_ARRAY_TASK_MAX $SLURM_ARRAY_JOB_ID $SLURM_JOB_ID"
    job_id = await local.submit(f"#!/bin/sh\n{lines}echo {names}; exit $SLURM_ARRAY_TASK_ID\n")
    for index in (1, 3, 5, 8):
        info = await local.end(f"{job_id}_{index}")
        assert info.job_id == f"{job_id}_{index}"
        assert (info.status.state, info.status.exit_code, info.name) == ("FAILED", index, "many")
        count, low, high, array, own = local.output(f"{job_id}_{index}").split()
        assert (count, low, high, array) == ("4", "1", "8", job_id)
        if own != job_id:  # the number of the first task is that of the array
            assert await local.all(own) == [info]
    assert [info.job_id for info in await local.all(job_id)] == [f"{job_id}_{index}" for index in (1, 3, 5, 8)]
    metadata = await local.scheduler.metadata(USER, job_id)
    assert [each.standard_output for each in metadata] == [
        str(local.work / f"slurm-{job_id}_{index}.out") for index in (1, 3, 5, 8)
    ]
    (one,) = await local.scheduler.metadata(USER, f"{job_id}_3")
    assert one.job_id == f"{job_id}_3"
    with pytest.raises(JobNotFoundError):
        await local.scheduler.metadata(USER, f"{job_id}_2")
    after = await local.submit("true")
    assert int(after) == int(job_id) + 4


async def test_an_array_limit_and_its_cancellation(local: Bench) -> None:
    job_id = await local.submit(f"#!/bin/sh\n#SBATCH --array=0-3%1\n{until_file('go')}\n")
    await local.state(f"{job_id}_0", "RUNNING")
    await local.reason(f"{job_id}_1", "JobArrayTaskLimit")
    other = await local.run("true")  # the second core is free for others
    assert other.status.state == "COMPLETED"
    await local.scheduler.cancel(USER, f"{job_id}_1")
    assert (await local.info(f"{job_id}_1")).status.state.startswith("CANCELLED")
    await local.scheduler.cancel(USER, f"{job_id}_0")
    await local.end(f"{job_id}_0")
    await local.state(f"{job_id}_2", "RUNNING")
    with pytest.raises(InvalidRequestError, match="not running"):
        await local.scheduler.attach(USER, f"{job_id}_3", "true")
    await local.scheduler.cancel(USER, job_id)
    for index in range(4):
        assert (await local.end(f"{job_id}_{index}")).status.state.startswith("CANCELLED")


@pytest.mark.parametrize(
    ("script", "dependency", "state", "reason"),
    [
        ("exit 0", "afterok", "COMPLETED", "None"),
        ("exit 1", "afterok", "PENDING", "DependencyNeverSatisfied"),
        ("exit 0", "afternotok", "PENDING", "DependencyNeverSatisfied"),
        ("exit 1", "afternotok", "COMPLETED", "None"),
        ("exit 1", "afterany", "COMPLETED", "None"),
        ("exit 0", "after", "COMPLETED", "None"),
    ],
)
async def test_dependencies(local: Bench, script: str, dependency: str, state: str, reason: str) -> None:
    first = await local.submit(f"{until_file('go')}; echo first >> order; {script}")
    second = await local.submit(f"#!/bin/sh\n#SBATCH -d {dependency}:{first}\necho second >> order\n")
    if dependency != "after":
        await local.reason(second, "Dependency")
        local.file("go").touch()
    info = await local.until(second, lambda info: (info.status.state, info.status.state_reason) == (state, reason))
    assert info.status.state == state
    if state == "COMPLETED":
        expected = "second\n" if dependency == "after" else "first\nsecond\n"
        assert local.file("order").read_text() == expected


async def test_dependency_on_tasks_of_an_array(local: Bench) -> None:
    array = await local.submit("#!/bin/sh\n#SBATCH -a 0-1\nexit $SLURM_ARRAY_TASK_ID\n")
    good = await local.submit(f"#!/bin/sh\n#SBATCH -d afterok:{array}_0\n")
    bad = await local.submit(f"#!/bin/sh\n#SBATCH -d afterok:{array} --kill-on-invalid-dep=yes\n")
    either = await local.submit(f"#!/bin/sh\n#SBATCH -d afterok:{array}_1?afterany:{array}\n")
    matching = await local.submit(f"#!/bin/sh\n#SBATCH -a 0-1 -d aftercorr:{array}\n")
    assert (await local.end(good)).status.state == "COMPLETED"
    assert (await local.end(bad)).status.state.startswith("CANCELLED")
    assert (await local.end(either)).status.state == "COMPLETED"
    assert (await local.end(f"{matching}_0")).status.state == "COMPLETED"
    await local.reason(f"{matching}_1", "DependencyNeverSatisfied")


async def test_singleton(local: Bench) -> None:
    first = await local.submit(until_file("go"), name="only")
    second = await local.submit("#!/bin/sh\n#SBATCH -d singleton\n", name="only")
    other = await local.submit("#!/bin/sh\n#SBATCH -d singleton\n", name="another")
    await local.end(other)
    await local.reason(second, "Dependency")
    local.file("go").touch()
    assert (await local.end(second)).status.state == "COMPLETED"
    assert (await local.info(first)).status.state == "COMPLETED"


async def test_thousands_of_jobs(local: Bench) -> None:
    """The list stays exact, newest last, and the time window holds."""
    held = await local.submit("#!/bin/sh\n#SBATCH --hold -a 0-9999\n")
    assert len(await local.all(held)) == 10_000
    await local.scheduler.cancel(USER, held)
    newest = (await local.run("true")).job_id
    found = await local.scheduler.jobs(USER, JobQuery(window=3600))
    assert [info.job_id for info in found] == [*(f"{held}_{index}" for index in range(10_000)), newest]
    assert await local.scheduler.jobs(USER, JobQuery(window=-1)) == []
    with pytest.raises(InvalidRequestError, match="empty or too large"):
        await local.submit("#!/bin/sh\n#SBATCH --hold -a 0-10000\n")
