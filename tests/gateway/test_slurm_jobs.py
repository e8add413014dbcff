"""Jobs of a real Slurm, through its commands."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.slurm import SlurmOptions, SlurmScheduler
from crestline.model import (
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
    normalize_state,
)
from crestline.wire.compute import JobDescription, JobInfo
from harness import waiting
from harness.cluster import Cluster, on_every_slurm
from harness.container_commands import ContainerCommands
from harness.slurmrestd import rest_options

pytestmark = [pytest.mark.anyio, on_every_slurm]

PATIENCE = 120


@pytest.fixture
def commands(cluster: Cluster) -> ContainerCommands:
    return ContainerCommands(cluster)


@pytest.fixture
def way() -> str:
    return "own-eyes"


every_way = pytest.mark.parametrize("way", ["own-eyes", "observer", "slurmrestd"])
both_doors = pytest.mark.parametrize("way", ["own-eyes", "slurmrestd"])


@pytest.fixture
async def slurm(
    cluster: Cluster, commands: ContainerCommands, way: str, tmp_path: Path
) -> AsyncIterator[SlurmScheduler]:
    observer = "observer" if way == "observer" else None
    rest = rest_options(cluster, tmp_path) if way == "slurmrestd" else None
    options = SlurmOptions(observer=observer, timeout=30, submit_timeout=30, rest=rest)
    scheduler = SlurmScheduler("test", commands, options)
    await scheduler.start()
    yield scheduler
    await scheduler.stop()


def describe(body: str = "", **values: object) -> JobDescription:
    script = values.pop("script", f"#!/bin/bash\n{body}\n")
    return JobDescription(**({"working_directory": "/scratch", "script": script} | values))  # type: ignore[arg-type]


async def one(slurm: SlurmScheduler, job_id: str, user: str = "alice") -> JobInfo:
    (job,) = await slurm.jobs(user, JobQuery(ids=(job_id,), all_users=True))
    return job


async def until(
    slurm: SlurmScheduler, job_id: str, met: Callable[[list[JobInfo]], bool], user: str = "alice"
) -> list[JobInfo]:
    async def told() -> list[JobInfo]:
        jobs = await slurm.jobs(user, JobQuery(ids=(job_id,)))
        return jobs if met(jobs) else []

    return await waiting.until(told, PATIENCE)


def ended(jobs: list[JobInfo]) -> bool:
    return bool(jobs) and all(normalize_state(job.status.state).is_terminal for job in jobs)


def running(jobs: list[JobInfo]) -> bool:
    return any(job.status.state == "RUNNING" for job in jobs)


@both_doors
async def test_a_job_from_submission_to_its_end(slurm: SlurmScheduler, cluster: Cluster) -> None:
    job = describe("echo out; echo err >&2; exit 3", name="first", account="proj", partition="xfer")
    job.standard_output, job.standard_error = "%x-%j.out", "%x-%j.err"
    job_id = await slurm.submit("alice", job)
    seen = await one(slurm, job_id)
    assert (seen.name, seen.account, seen.partition, seen.user) == ("first", "proj", "xfer", "alice")
    assert (seen.cluster, seen.working_directory) == ("test", "/scratch")
    assert seen.time.submit is not None
    assert abs(seen.time.submit - time.time()) < 3600
    (seen,) = await until(slurm, job_id, ended)
    assert (seen.status.state, seen.status.exit_code, seen.status.interrupt_signal) == ("FAILED", 3, 0)
    assert seen.nodes == "n04"
    assert seen.time.start is not None
    assert seen.time.end is not None
    assert seen.time.limit == 12 * 3600
    (about,) = await slurm.metadata("alice", job_id)
    assert about.script == job.script
    assert about.standard_output == f"/scratch/first-{job_id}.out"
    assert about.standard_error == f"/scratch/first-{job_id}.err"
    assert cluster.check("alice", ["cat", about.standard_output]) == "out\n"
    assert cluster.check("alice", ["cat", about.standard_error]) == "err\n"


async def test_a_killed_job_has_its_signal(slurm: SlurmScheduler) -> None:
    job_id = await slurm.submit("alice", describe("kill -9 $$"))
    (seen,) = await until(slurm, job_id, ended)
    assert (seen.status.state, seen.status.interrupt_signal) == ("FAILED", 9)


NAMES = [
    "a|b", "line\nbreak", "quote ' and \" and `", "back\\slash %j %s $(id) ;&", "\u540d\u524d \u00e9 \U0001f600",
    "\x01\x1b[31m\x1f\x7f", "@0123456789abcdef@", "x" * 300, " ", "--wrap=true", "RUNNING", "1 --output=/nowhere/x",
]  # fmt: skip
_ODD = [*map(chr, range(1, 256)), "\u2028", "\ufeff", "\u202e", "\uffff", "\U0001f600", "|", "@", "\n", "%", ":", ","]
_random = random.Random(7)
NAMES += ["".join(_random.choices(_ODD, k=20)) for _ in range(15)]


@every_way
async def test_no_name_breaks_the_list(slurm: SlurmScheduler, cluster: Cluster) -> None:
    names = {await slurm.submit("alice", describe("true", name=name)): name for name in NAMES}
    listed = {job.job_id: job for job in await slurm.jobs("alice", JobQuery(window=86400))}
    assert {job_id: listed[job_id].name for job_id in names} == names
    everybody = {job.job_id: job for job in await slurm.jobs("bob", JobQuery(window=86400, all_users=True))}
    assert {job_id: everybody[job_id].name for job_id in names} == names
    for job_id, name in names.items():
        assert job_id in {each.job_id for each in await slurm.jobs("alice", JobQuery(names=frozenset({name})))}
        await until(slurm, job_id, ended)
    await purge(cluster)
    fresh = SlurmScheduler("test", ContainerCommands(cluster), SlurmOptions(timeout=30))
    recorded = {job.job_id: job.name for job in await fresh.jobs("alice", JobQuery(ids=tuple(names)))}
    assert recorded == {job_id: name[:255] for job_id, name in names.items()}  # slurmdbd keeps no more
    await fresh.stop()


async def purge(cluster: Cluster) -> None:
    """Make slurmctld forget all jobs that have ended, and wait until it has."""
    held = ["squeue", "--noheader", "--states=BF,CA,CD,F,NF,OOM,TO,DL,PR", "--format=%A"]
    _keep_ended_jobs(cluster, 2)
    await waiting.until(lambda: not cluster.check("root", held).strip(), PATIENCE)
    _keep_ended_jobs(cluster, 300)


def _keep_ended_jobs(cluster: Cluster, seconds: int) -> None:
    file = "/etc/slurm/slurm.conf"
    change = f"sed -i /^MinJobAge/d {file}; echo MinJobAge={seconds} >>{file}; scontrol reconfigure"
    cluster.check("root", ["sh", "-c", change])


async def test_environment_arrives_as_it_is(slurm: SlurmScheduler, cluster: Cluster) -> None:
    values = {
        "COMMAS": "1,2,3", "LINES": "a\nb\n\n", "QUOTES": "'\"`$HOME \\", "UNICODE": "\u00e9\u540d", "EMPTY": "",
        "PATH": "/mine:/usr/bin:/bin",
    }  # fmt: skip
    for given in (values, [f"{name}={value}" for name, value in values.items()]):
        job = describe("exec 1>env.json; python3 -c 'import json,os; print(json.dumps(dict(os.environ)))'", env=given)
        job_id = await slurm.submit("alice", job)
        await until(slurm, job_id, ended)
        seen = json.loads(cluster.check("alice", ["cat", "/scratch/env.json"]))
        assert {name: seen.get(name) for name in values} == values
        cluster.check("alice", ["rm", "/scratch/env.json"])


async def test_a_script_that_lies_there(slurm: SlurmScheduler, cluster: Cluster) -> None:
    cluster.check("alice", ["sh", "-c", "printf '#!/bin/sh\\nexit 4\\n' > '/scratch/my job.sh'"])
    job_id = await slurm.submit("alice", describe(script=None, script_path="/scratch/my job.sh"))
    (seen,) = await until(slurm, job_id, ended)
    assert seen.status.exit_code == 4
    assert seen.name == "my job.sh"


async def test_what_slurm_refuses(slurm: SlurmScheduler) -> None:
    for job, words in [
        (describe(partition="nope"), "partition"),
        (describe(working_directory="/scratch/not made"), "/scratch/not made"),
        (describe(working_directory="/scratch/not made", env={"A": "b"}), "no such file"),
        (describe(account="nope"), "account"),
        (describe(reservation="nope"), "reservation"),
        (describe(constraints="nope"), "feature"),
        (describe(script="echo no interpreter\n"), "batch script"),
        (describe(script="#!/bin/sh\n#SBATCH --no-such-option\n"), "unrecognized"),
        (describe(script="#!/bin/sh\n#SBATCH --test-only\n"), "to start"),
        (describe(script=None, script_path="/scratch/none.sh"), "/scratch/none.sh"),
        (describe(script="#!/bin/sh\n#SBATCH --dependency=afterok:bad\n"), "dependency"),
    ]:
        with pytest.raises(InvalidRequestError) as caught:
            await slurm.submit("alice", job)
        assert words in " ".join([str(caught.value), *caught.value.details]).lower()
        assert caught.value.hint


async def test_a_key_finds_its_job(slurm: SlurmScheduler, cluster: Cluster) -> None:
    key = f"dag/task/{time.time()}"
    job_id = await slurm.submit("alice", describe('#SBATCH --comment="of mine"', name="keyed"), key)
    assert await slurm.find("alice", key) == job_id
    assert "of mine" in cluster.check("alice", ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "-o%k"])
    await until(slurm, job_id, ended)
    await purge(cluster)
    assert await slurm.find("alice", key) == job_id


async def test_a_key_without_a_job_is_said_only_when_it_is_certain(commands: ContainerCommands) -> None:
    slurm = SlurmScheduler("test", commands, SlurmOptions(timeout=30, submit_timeout=1))
    with pytest.raises(GatewayUnavailableError) as caught:  # another gateway's sbatch may be on the way
        await slurm.find("alice", "never used")
    assert caught.value.retry_after
    await asyncio.sleep(caught.value.retry_after)
    assert await slurm.find("alice", "never used") is None
    await slurm.stop()


@every_way
async def test_cancel(slurm: SlurmScheduler) -> None:
    job_id = await slurm.submit("alice", describe("sleep 600"))
    with pytest.raises(PermissionDeniedError):
        await slurm.cancel("bob", job_id)
    await until(slurm, job_id, running)
    await slurm.cancel("alice", job_id)
    (seen,) = await until(slurm, job_id, ended)
    assert seen.status.state.startswith("CANCELLED")
    await slurm.cancel("alice", job_id)
    with pytest.raises(PermissionDeniedError):
        await slurm.cancel("bob", job_id)
    for unknown in ("99999999", "--me", "-u", "x"):
        with pytest.raises(JobNotFoundError):
            await slurm.cancel("alice", unknown)


@every_way
async def test_hold_and_release(slurm: SlurmScheduler) -> None:
    job_id = await slurm.submit("alice", describe("#SBATCH --begin=now+1hour\ntrue"))
    await slurm.hold("alice", job_id)
    (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert seen.status.state_reason == "JobHeldUser"
    with pytest.raises(PermissionDeniedError):
        await slurm.release("bob", job_id)
    await slurm.release("alice", job_id)
    (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert seen.status.state_reason != "JobHeldUser"
    await slurm.cancel("alice", job_id)
    with pytest.raises(InvalidRequestError, match="Only jobs that wait"):
        await slurm.hold("alice", job_id)
    with pytest.raises(JobNotFoundError):
        await slurm.hold("alice", "99999999")


async def test_a_reader_never_sees_less_than_what_he_did(slurm: SlurmScheduler) -> None:
    for _ in range(5):
        job_id = await slurm.submit("alice", describe("#SBATCH --hold"))
        assert (await one(slurm, job_id)).status.state == "PENDING"
        await slurm.cancel("alice", job_id)
        assert (await one(slurm, job_id)).status.state.startswith("CANCELLED")


@every_way
async def test_arrays(slurm: SlurmScheduler) -> None:
    body = "#SBATCH --array=1-80:3%2\nexit $((SLURM_ARRAY_TASK_ID > 1))"
    job_id = await slurm.submit("alice", describe(f"#SBATCH --hold\n{body}", standard_output="%A-%a.out"))
    seen = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert len(seen) == 1, seen
    (whole,) = seen
    assert whole.job_id == f"{job_id}_[1-79:3%2]"
    assert (await one(slurm, f"{job_id}_40")).job_id == f"{job_id}_40"
    assert await slurm.jobs("alice", JobQuery(ids=(f"{job_id}_2",))) == []
    (about,) = await slurm.metadata("alice", f"{job_id}_40")
    assert about.standard_output == f"/scratch/{job_id}-40.out"
    await slurm.cancel("alice", f"{job_id}_40")
    assert (await one(slurm, f"{job_id}_40")).status.state == "CANCELLED"
    await slurm.cancel("alice", job_id)

    small = await slurm.submit("alice", describe("#SBATCH --array=1-3\nexit $((SLURM_ARRAY_TASK_ID > 1))"))
    tasks = await until(slurm, small, lambda jobs: len(jobs) == 3 and ended(jobs))
    assert {task.job_id: task.status.exit_code for task in tasks} == {f"{small}_1": 0, f"{small}_2": 1, f"{small}_3": 1}


@both_doors
async def test_heterogeneous_jobs(slurm: SlurmScheduler) -> None:
    body = "#SBATCH --ntasks=1 --partition=debug\n#SBATCH hetjob\n#SBATCH --ntasks=2 --partition=xfer\nsleep 600"
    job_id = await slurm.submit("alice", describe(body))
    parts = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert [(part.job_id, part.partition) for part in parts] == [(f"{job_id}+0", "debug"), (f"{job_id}+1", "xfer")]
    assert (await one(slurm, f"{job_id}+1")).partition == "xfer"
    await slurm.cancel("alice", job_id)
    await until(slurm, job_id, ended)


async def test_dependencies(slurm: SlurmScheduler) -> None:
    first = await slurm.submit("alice", describe("#SBATCH --hold"))
    second = await slurm.submit("alice", describe(f"#SBATCH --dependency=afterany:{first}"))
    assert (await one(slurm, second)).status.state_reason == "Dependency"
    await slurm.cancel("alice", first)
    await until(slurm, second, ended)


async def test_attach(slurm: SlurmScheduler, cluster: Cluster) -> None:
    job_id = await slurm.submit("alice", describe("#SBATCH --array=5\nsleep 600"))
    with pytest.raises(InvalidRequestError):
        await slurm.attach("alice", job_id, "'unclosed")
    await until(slurm, f"{job_id}_5", running)
    await slurm.attach("alice", f"{job_id}_5", f"touch '/scratch/attached {job_id}'")
    cluster.check("alice", ["test", "-e", f"/scratch/attached {job_id}"])
    with pytest.raises(InvalidRequestError):
        await slurm.attach("alice", f"{job_id}_5", "false")
    with pytest.raises(PermissionDeniedError):
        await slurm.attach("bob", f"{job_id}_5", "true")
    await slurm.cancel("alice", job_id)
    await until(slurm, job_id, ended)
    with pytest.raises(InvalidRequestError):
        await slurm.attach("alice", f"{job_id}_5", "true")
    with pytest.raises(JobNotFoundError):
        await slurm.attach("alice", "99999999", "true")


@every_way
async def test_foreign_jobs_are_seen_and_their_scripts_are_not(slurm: SlurmScheduler) -> None:
    job_id = await slurm.submit("alice", describe("sleep 600"))
    assert (await one(slurm, job_id, "bob")).user == "alice"
    assert await slurm.jobs("bob", JobQuery(ids=(job_id,))) == []
    assert job_id not in {job.job_id for job in await slurm.jobs("bob", JobQuery(window=3600))}
    with pytest.raises(PermissionDeniedError):
        await slurm.metadata("bob", job_id)
    with pytest.raises(JobNotFoundError):
        await slurm.metadata("bob", "99999999")
    await slurm.cancel("alice", job_id)


@both_doors
async def test_after_slurmctld_has_forgotten_a_job(slurm: SlurmScheduler, cluster: Cluster) -> None:
    job = describe("#SBATCH --output=in-%j.out\nexit 5", name="gone --output=no", standard_error="e %j")
    job_id = await slurm.submit("alice", job)
    await until(slurm, job_id, ended)
    # The accounting asks slurmctld for a script after the job itself: one that is forgotten by then never arrives.
    script_of = ["sacct", "--batch-script", f"--jobs={job_id}"]
    await waiting.until(lambda: job.script in cluster.check("root", script_of), PATIENCE)
    await purge(cluster)
    fresh_commands = ContainerCommands(cluster)
    fresh = SlurmScheduler("test", fresh_commands, SlurmOptions(timeout=30))
    for _ in range(20):
        seen = await one(fresh, job_id)
    assert (seen.status.state, seen.status.exit_code, seen.name) == ("FAILED", 5, "gone --output=no")
    assert [task.name for task in seen.tasks or []] == ["batch"]
    assert fresh_commands.ran["sacct"] == 1
    (about,) = await fresh.metadata("alice", job_id)
    assert about.script == job.script
    assert (about.standard_output, about.standard_error) == (f"/scratch/in-{job_id}.out", f"/scratch/e {job_id}")
    listed = {job.job_id: job for job in await fresh.jobs("alice", JobQuery(window=3600))}
    assert listed[job_id].status.state == "FAILED"
    await fresh.cancel("alice", job_id)
    with pytest.raises(PermissionDeniedError):
        await fresh.cancel("bob", job_id)
    assert await fresh.jobs("alice", JobQuery(ids=("99999999",))) == []
    await fresh.stop()


async def test_five_hundred_pollers_cost_two_commands_a_second_at_most(
    commands: ContainerCommands, cluster: Cluster
) -> None:
    slurm = SlurmScheduler("test", commands, SlurmOptions(observer="observer", timeout=30))
    await slurm.start()
    users = [f"user{number:02}" for number in range(1, 11)]
    ids = {user: await slurm.submit(user, describe("#SBATCH --hold")) for user in users}
    commands.ran.clear()
    began = time.monotonic()

    async def poll(user: str) -> None:
        for _ in range(4):
            assert (await one(slurm, ids[user], user)).status.state == "PENDING"
            await asyncio.sleep(1)

    await asyncio.gather(*(poll(user) for user in users for _ in range(50)))
    spent = time.monotonic() - began
    assert sum(commands.ran.values()) <= 2 * (spent + 1)
    assert commands.ran["squeue"] >= 3
    for user in users:
        await slurm.cancel(user, ids[user])
    await slurm.stop()
