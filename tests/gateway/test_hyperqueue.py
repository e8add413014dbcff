"""HyperQueue as a scheduler, with a real server and two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.hyperqueue import HyperQueueOptions, HyperQueueScheduler
from crestline.gateway.schedulers.hyperqueue.engine import Engine
from crestline.model import (
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    normalize_state,
)
from crestline.wire.compute import JobDescription, JobInfo
from harness import waiting
from harness.parts import require

pytestmark = pytest.mark.anyio

PATIENCE = 120


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The directory of a running server."""
    try:
        import hyperqueue  # noqa: F401
    except ImportError:
        require(False, "hyperqueue is not installed: pip install hyperqueue")
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.hyperqueue_server"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith("directory="):
            yield line.strip().removeprefix("directory=")
            break
    else:
        pytest.fail(f"HyperQueue did not start: {seen}")
    process.communicate(timeout=60)


@pytest.fixture
async def hq(server: str, tmp_path: Path) -> AsyncIterator[HyperQueueScheduler]:
    options = HyperQueueOptions(server_directory=server, timeout=60, max_age=0.05)
    scheduler = HyperQueueScheduler("hq", tmp_path / "records", options)
    await scheduler.start()
    yield scheduler
    await scheduler.stop()


def describe(directory: Path, body: str = "true", **values: Any) -> JobDescription:
    return JobDescription(**({"working_directory": str(directory), "script": f"#!/bin/sh\n{body}\n"} | values))


async def until(hq: HyperQueueScheduler, job_id: str, met: Callable[[list[JobInfo]], bool]) -> list[JobInfo]:
    async def told() -> list[JobInfo]:
        jobs = await hq.jobs("alice", JobQuery(ids=(job_id,)))
        return jobs if met(jobs) else []

    return await waiting.until(told, PATIENCE)


def ended(jobs: list[JobInfo]) -> bool:
    return all(normalize_state(job.status.state).is_terminal for job in jobs)


def running(jobs: list[JobInfo]) -> bool:
    return all(job.status.state == "RUNNING" for job in jobs)


async def test_a_job_from_submission_to_its_end(hq: HyperQueueScheduler, tmp_path: Path) -> None:
    values = {"COMMAS": "1,2", "LINES": "a\nb", "QUOTES": "'\"$HOME"}
    body = f"{sys.executable} -c 'import json,os; print(json.dumps(dict(os.environ)))'; echo bad >&2; exit 3"
    job = describe(tmp_path, body, name="a|b\nc", env=values, standard_output="o %j", standard_error="e")
    job_id = await hq.submit("alice", job)
    (seen,) = await until(hq, job_id, ended)
    assert (seen.name, seen.user, seen.status.state, seen.status.exit_code) == ("a|b\nc", "alice", "FAILED", 3)
    assert seen.time.start is not None
    assert seen.time.end is not None
    assert seen.nodes
    (about,) = await hq.metadata("alice", job_id)
    assert about.script == job.script
    assert about.standard_output == str(tmp_path / f"o {job_id}")
    environment = json.loads((tmp_path / f"o {job_id}").read_text())
    assert {name: environment.get(name) for name in values} == values
    assert environment["SLURM_JOB_ID"] == job_id
    assert (tmp_path / "e").read_text() == "bad\n"
    assert [job.job_id for job in await hq.jobs("alice", JobQuery(window=3600))] == [job_id]
    assert await hq.jobs("bob", JobQuery(window=3600)) == []


async def test_two_workers_run_two_jobs_at_once(hq: HyperQueueScheduler, tmp_path: Path) -> None:
    meet = 'touch "$SLURM_ARRAY_TASK_ID"; while [ ! -e 1 ] || [ ! -e 2 ]; do sleep 0.1; done'
    job_id = await hq.submit("alice", describe(tmp_path, f"#SBATCH --array=1-2\n{meet}"))
    tasks = await until(hq, job_id, ended)
    assert {task.job_id: task.status.state for task in tasks} == {
        f"{job_id}_1": "COMPLETED",
        f"{job_id}_2": "COMPLETED",
    }
    assert [task.job_id for task in await hq.jobs("alice", JobQuery(ids=(f"{job_id}_2",)))] == [f"{job_id}_2"]


async def test_cancel(hq: HyperQueueScheduler, tmp_path: Path) -> None:
    jobs = [await hq.submit("alice", describe(tmp_path, "sleep 600 & wait")) for _ in range(3)]
    await until(hq, jobs[0], running)
    await until(hq, jobs[1], running)
    for job_id in reversed(jobs):  # the last waits for a worker
        with pytest.raises(PermissionDeniedError):
            await hq.cancel("bob", job_id)
        await hq.cancel("alice", job_id)
        await hq.cancel("alice", job_id)
    for job_id in jobs:
        (seen,) = await until(hq, job_id, ended)
        assert seen.status.state == "CANCELLED"
    after = await hq.submit("alice", describe(tmp_path))
    (seen,) = await until(hq, after, ended)
    assert seen.status.state == "COMPLETED"
    with pytest.raises(JobNotFoundError):
        await hq.cancel("alice", "999")
    with pytest.raises(UnsupportedError):
        await hq.attach("alice", after, "true")


async def test_ends(hq: HyperQueueScheduler, tmp_path: Path) -> None:
    limited = await hq.submit("alice", describe(tmp_path, "#SBATCH --time=0:01\nsleep 600"))
    killed = await hq.submit("alice", describe(tmp_path, "kill -9 $$"))
    nowhere = await hq.submit("alice", describe(tmp_path / "absent"))
    (seen,) = await until(hq, limited, ended)
    assert seen.status.state == "TIMEOUT"
    (seen,) = await until(hq, killed, ended)
    assert (seen.status.state, seen.status.interrupt_signal) == ("FAILED", 9)
    (seen,) = await until(hq, nowhere, ended)
    assert seen.status.state == "FAILED"


async def test_what_is_refused(hq: HyperQueueScheduler, tmp_path: Path) -> None:
    for job in (
        describe(tmp_path, script="no interpreter"),
        describe(tmp_path, "#SBATCH --dependency=afterok:1"),
        describe(tmp_path, script=None, script_path="none.sh"),
        describe(Path("relative")),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await hq.submit("alice", job)
        assert caught.value.hint
    assert await hq.jobs("alice", JobQuery()) == []


async def test_a_submission_whose_answer_was_lost_happens_once(
    hq: HyperQueueScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Engine.submit

    async def lost(self: Engine, job: Any, runner: str) -> int:
        await submit(self, job, runner)
        raise GatewayUnavailableError("the answer was lost")

    monkeypatch.setattr(Engine, "submit", lost)
    with pytest.raises(GatewayUnavailableError):
        await hq.submit("alice", describe(tmp_path, "echo ran >>runs"), "the key")
    monkeypatch.setattr(Engine, "submit", submit)
    again = HyperQueueScheduler("hq", tmp_path / "records", hq._engine._options)  # the gateway has restarted
    await again.start()
    job_id = await again.find("alice", "the key")
    assert job_id is not None
    assert await again.find("bob", "the key") is None
    await until(again, job_id, ended)
    after = await again.submit("alice", describe(tmp_path))  # behind the second hand-over in the queue
    await until(again, after, ended)
    assert (tmp_path / "runs").read_text() == "ran\n"
    await again.stop()


async def test_a_server_that_is_not_there(tmp_path: Path, server: str) -> None:
    hq = HyperQueueScheduler("hq", tmp_path / "r", HyperQueueOptions(server_directory=str(tmp_path / "none")))
    await hq.start()
    with pytest.raises(GatewayUnavailableError):
        await hq.ping()
    with pytest.raises(GatewayUnavailableError):
        await hq.submit("alice", describe(tmp_path))
