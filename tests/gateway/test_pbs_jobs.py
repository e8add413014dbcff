"""PBS through its commands, against stand-ins that print what OpenPBS documents."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.pbs import PbsOptions, PbsScheduler
from crestline.model import (
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    JobState,
    PermissionDeniedError,
    UnsupportedError,
    normalize_state,
)
from crestline.wire.compute import JobDescription, JobInfo
from harness.local_commands import LocalCommands
from harness.waiting import until_answered

pytestmark = pytest.mark.anyio

PROGRAMS = Path(__file__).parents[1] / "stand_ins" / "pbs"


class Server:
    """The stand-in server, as tests move it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "jobs.json"

    def change(self, job_id: str, **values: Any) -> None:
        jobs = json.loads(self._file.read_text())
        jobs[job_id] |= values
        self._file.write_text(json.dumps(jobs))

    def end(self, job_id: str, status: int | None) -> None:
        now = int(time.time())
        self.change(
            job_id, job_state="F", substate=92, Exit_status=status, mtime=now, stime=now - 5,
            resources_used={"walltime": "00:00:05"}, exec_host="n1/0*8+n2/0*8",
        )  # fmt: skip

    def attributes(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text())[job_id]
        return found


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def commands(server: Server) -> LocalCommands:
    return LocalCommands({"PBS_STAND_IN": str(server.directory)}, "PBS_STAND_IN_USER")


@pytest.fixture(params=[None, "watcher"], ids=["own-eyes", "observer"])
async def pbs(commands: LocalCommands, request: pytest.FixtureRequest) -> AsyncIterator[PbsScheduler]:
    options = PbsOptions(directory=str(PROGRAMS), observer=request.param, timeout=30, submit_timeout=30, max_age=0.05)
    scheduler = PbsScheduler("pbs", commands, options)
    await scheduler.start()
    yield scheduler
    await scheduler.stop()


def describe(directory: Path, **values: Any) -> JobDescription:
    return JobDescription(**({"working_directory": str(directory), "script": "#!/bin/sh\ntrue\n"} | values))


async def one(pbs: PbsScheduler, job_id: str, user: str = "alice") -> JobInfo:
    await asyncio.sleep(0.06)  # longer than a list may be old
    (job,) = await pbs.jobs(user, JobQuery(ids=(job_id,), all_users=True))
    return job


def state(job: JobInfo) -> JobState:
    return normalize_state(job.status.state, job.status.exit_code)


async def test_a_job_from_submission_to_its_end(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    job = describe(
        tmp_path, name="first", account="proj", partition="gpu", standard_output="out", standard_error="/a/err"
    )
    job_id = await pbs.submit("alice", job)
    seen = await one(pbs, job_id)
    assert (seen.name, seen.account, seen.partition, seen.user) == ("first", "proj", "gpu", "alice")
    assert (seen.working_directory, state(seen)) == (str(tmp_path), JobState.PENDING)
    assert seen.time.submit is not None
    assert abs(seen.time.submit - time.time()) < 600
    assert seen.time.limit == 3600
    server.change(job_id, job_state="R", stime=int(time.time()), exec_host="n1/0*8+n2/0*8+n1/1")
    seen = await one(pbs, job_id)
    assert (state(seen), seen.nodes) == (JobState.RUNNING, "n1,n2")
    server.end(job_id, 3)
    seen = await one(pbs, job_id)
    assert (state(seen), seen.status.exit_code, seen.status.interrupt_signal) == (JobState.FAILED, 3, 0)
    assert seen.time.elapsed == 5
    assert seen.time.end is not None
    (about,) = await pbs.metadata("alice", job_id)
    assert (about.standard_output, about.standard_error) == (f"{tmp_path}/out", "/a/err")
    assert (server.directory / f"script.{job_id.split('.')[0]}").read_text() == job.script
    listed = await pbs.jobs("alice", JobQuery(window=3600))
    assert [job.job_id for job in listed] == [job_id]
    assert not listed.partial


async def test_ids_with_and_without_the_server(pbs: PbsScheduler, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path))
    assert job_id == "1.pbs-server"
    assert (await one(pbs, "1")).job_id == job_id
    for text in ("", "-x", "1;2", "1.a b", "x", "1[", "99"):
        assert await pbs.jobs("alice", JobQuery(ids=(text,))) == []


@pytest.mark.parametrize(
    ("status", "expected", "signal"),
    [
        (0, JobState.COMPLETED, 0),
        (1, JobState.FAILED, 0),
        (271, JobState.FAILED, 15),
        (-1, JobState.FAILED, 0),
        (-29, JobState.TIMEOUT, 0),
        (-27, JobState.OUT_OF_MEMORY, 0),
    ],
)
async def test_ends(
    pbs: PbsScheduler, server: Server, tmp_path: Path, status: int, expected: JobState, signal: int
) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path))
    server.end(job_id, status)
    seen = await one(pbs, job_id)
    assert (state(seen), seen.status.interrupt_signal) == (expected, signal)


@pytest.mark.parametrize("letter", list("QHWTRBSUE"))
async def test_states(pbs: PbsScheduler, server: Server, tmp_path: Path, letter: str) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path))
    server.change(job_id, job_state=letter)
    assert (await one(pbs, job_id)).status.state == letter


async def test_output_that_is_no_json(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    names = [
        "007",
        "1e999",
        "nan",
        "-.5",
        "inf",
        "0x1f",
        'quo"te',
        "back\\slash",
        "tab\tline\nbreak\x01",
        "\u540d \u00e9",
        "{",
        "a,b:c",
    ]
    ids = []
    for name in names:
        ids.append(await pbs.submit("alice", describe(tmp_path)))
        server.change(ids[-1], Job_Name=name, comment=f"{name} is waiting")
    await asyncio.sleep(0.06)
    assert [job.name for job in await pbs.jobs("alice", JobQuery(ids=tuple(ids)))] == names
    assert [job.name for job in await pbs.jobs("alice", JobQuery(window=3600))] == names


async def test_environment_arrives_as_it_is(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    values = {"COMMAS": "1,2,3", "LINES": "a\nb", "QUOTES": "'\"`$HOME \\", "EMPTY": "", "UNICODE": "\u540d"}
    script = "#!/bin/sh\n#PBS -v OF_SCRIPT=1\ntrue\n"
    job_id = await pbs.submit("alice", describe(tmp_path, env=values, script=script))
    variables = server.attributes(job_id)["Variable_List"]
    assert {name: variables.get(name) for name in values} == values
    assert variables["OF_SCRIPT"] == "1"
    assert "1,2,3" not in server.attributes(job_id)["Submit_arguments"]


async def test_a_script_that_lies_there(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    (tmp_path / "my job.sh").write_text("#!/bin/sh\n#PBS -N of-script\n")
    job_id = await pbs.submit("alice", describe(tmp_path, script=None, script_path="my job.sh"))
    assert (await one(pbs, job_id)).name == "of-script"


async def test_a_reservation_is_a_queue(pbs: PbsScheduler, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path, reservation="R12", partition="workq"))
    assert (await one(pbs, job_id)).partition == "R12"


async def test_what_pbs_refuses(pbs: PbsScheduler, tmp_path: Path) -> None:
    for values, words in [
        ({"partition": "nope"}, "Unknown queue"),
        ({"name": "two words"}, "illegal -N"),
        ({"constraints": "gpu"}, "constraints"),
        ({"standard_input": "in"}, "standardInput"),
        ({"script": None}, "script"),
        ({"script": None, "script_path": "none.sh"}, "No such file"),
    ]:
        with pytest.raises(InvalidRequestError, match=words) as caught:
            await pbs.submit("alice", describe(tmp_path, **values))
        assert caught.value.hint


async def test_a_key_finds_its_job(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path), "the key")
    await pbs.submit("bob", describe(tmp_path), "the key")
    assert await pbs.find("alice", "the key") == job_id
    server.end(job_id, 0)
    assert await pbs.find("alice", "the key") == job_id


async def test_cancel(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path))
    with pytest.raises(PermissionDeniedError):
        await pbs.cancel("bob", job_id)
    await pbs.cancel("alice", job_id)
    (seen,) = await pbs.jobs("alice", JobQuery(ids=(job_id,)))
    assert state(seen) is JobState.FAILED
    await pbs.cancel("alice", job_id)
    with pytest.raises(PermissionDeniedError):
        await pbs.cancel("bob", job_id)
    for unknown in ("99", "-W", "x"):
        with pytest.raises(JobNotFoundError):
            await pbs.cancel("alice", unknown)


async def test_arrays(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path, script="#!/bin/sh\n#PBS -J 3-5\n", name="a"))
    assert job_id == "1[].pbs-server"
    elements = [f"1[{index}].pbs-server" for index in (3, 4, 5)]
    assert [job.job_id for job in await pbs.jobs("alice", JobQuery(ids=(job_id,)))] == elements
    assert (await one(pbs, "1[4]")).job_id == elements[1]
    server.end(elements[0], 0)
    server.end(elements[1], 1)
    await asyncio.sleep(0.06)
    ended = await pbs.jobs("alice", JobQuery(ids=("1[]",)))
    assert {job.job_id: state(job) for job in ended} == dict(
        zip(elements, (JobState.COMPLETED, JobState.FAILED, JobState.PENDING), strict=True)
    )
    (about,) = await pbs.metadata("alice", "1[4]")
    assert about.standard_output == f"{tmp_path}/a.o1.4"
    await pbs.cancel("alice", job_id)
    left = await pbs.jobs("alice", JobQuery(ids=(job_id,)))
    assert [job.job_id for job in left] == elements
    assert all(state(job).is_terminal for job in left)


async def test_foreign_jobs(pbs: PbsScheduler, tmp_path: Path) -> None:
    job_id = await pbs.submit("alice", describe(tmp_path))
    assert (await one(pbs, job_id, "bob")).user == "alice"
    assert await pbs.jobs("bob", JobQuery(ids=(job_id,))) == []
    assert await pbs.jobs("bob", JobQuery(window=3600)) == []
    assert [job.job_id for job in await pbs.jobs("bob", JobQuery(window=3600, all_users=True))] == [job_id]
    with pytest.raises(PermissionDeniedError):
        await pbs.metadata("bob", job_id)
    with pytest.raises(UnsupportedError):
        await pbs.attach("alice", job_id, "true")


async def test_without_job_history_what_was_seen_stays(pbs: PbsScheduler, server: Server, tmp_path: Path) -> None:
    (server.directory / "no_history").touch()
    job_id = await pbs.submit("alice", describe(tmp_path))
    assert [job.job_id for job in await pbs.jobs("alice", JobQuery(window=3600))] == [job_id]
    assert await pbs.jobs("alice", JobQuery(ids=("99",))) == []


async def test_many_pollers_share_one_qstat(commands: LocalCommands, tmp_path: Path) -> None:
    pbs = PbsScheduler("pbs", commands, PbsOptions(directory=str(PROGRAMS), timeout=30, max_age=3600))
    job_id = await pbs.submit("alice", describe(tmp_path))
    await pbs.jobs("alice", JobQuery(ids=(job_id,)))
    commands.ran.clear()
    for _ in range(200):
        await pbs.jobs("alice", JobQuery(ids=(job_id,)))
    assert not commands.ran
    await pbs.stop()


@pytest.mark.parametrize("how", ["down", "hang"])
async def test_a_server_that_does_not_answer(commands: LocalCommands, server: Server, tmp_path: Path, how: str) -> None:
    options = PbsOptions(directory=str(PROGRAMS), timeout=2, submit_timeout=2, max_age=0.05, max_stale=0)
    pbs = PbsScheduler("pbs", commands, options)
    job_id = await pbs.submit("alice", describe(tmp_path))
    await one(pbs, job_id)
    (server.directory / how).touch()
    await asyncio.sleep(0.06)
    asks = [
        lambda: pbs.jobs("alice", JobQuery(ids=(job_id,))),
        lambda: pbs.jobs("alice", JobQuery(window=3600)),
        lambda: pbs.submit("alice", describe(tmp_path)),
        lambda: pbs.find("alice", "key"),
        lambda: pbs.nodes("alice"),
    ]
    for ask in asks:
        async with asyncio.timeout(60):
            with pytest.raises(GatewayUnavailableError) as caught:
                await ask()
        assert caught.value.retry_after
    (server.directory / how).unlink()
    (seen,) = await until_answered(lambda: pbs.jobs("alice", JobQuery(ids=(job_id,))), GatewayUnavailableError)
    assert state(seen) is JobState.PENDING
    await pbs.stop()


async def test_resources(pbs: PbsScheduler) -> None:
    nodes = {node.name: node for node in await pbs.nodes("alice")}
    assert list(nodes) == ["n1", "n2", "g1"]
    assert nodes["n2"].state == ["JOB-BUSY", "OFFLINE"]
    assert nodes["g1"].partitions == ["gpu"]
    assert (nodes["n1"].cpus, nodes["n1"].idle_cpus, nodes["n1"].alloc_memory, nodes["n1"].free_memory) == (
        8,
        6,
        1024,
        15360,
    )
    queues = {queue.name: queue for queue in await pbs.partitions("alice")}
    assert (queues["workq"].total_nodes, queues["workq"].cpus, queues["workq"].partition) == (2, 16, "UP")
    assert (queues["gpu"].total_nodes, queues["gpu"].partition) == (1, "DOWN")
    (reservation,) = await pbs.reservations("alice")
    assert (reservation.name, reservation.node_list, reservation.state) == ("R12", "n1,n2", "CONFIRMED")
    assert (reservation.start_time, reservation.end_time) == (1795304157, 1795307757)
    assert await pbs.accounts("alice") == []
    assert await pbs.ping()
