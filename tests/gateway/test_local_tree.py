"""The end of a job is the end of all its processes, wherever they have gone."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from harness.local_scheduler import USER, Bench, appears, bench
from harness.waiting import until

pytestmark = pytest.mark.anyio

# A grandchild in a session of its own whose parent is gone, deaf to SIGTERM, that keeps writing.
_RUNAWAY = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "deaf" else signal.SIG_DFL)
        with open("runaway", "w") as file:
            file.write(f"{os.getpid()}\\n")
        while True:
            with open("beats", "a") as file:
                file.write("x")
    os._exit(0)
os.wait()
"""


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, kill_wait=0.5) as running:
        (running.work / "runaway.py").write_text(_RUNAWAY)
        yield running


def script(manner: str, then: str) -> str:
    start = f"echo $PPID > supervisor; {sys.executable} runaway.py {manner}"
    return f"{start}\nwhile [ ! -e runaway ]; do sleep 0.01; done\n{then}"


def gone(process: psutil.Process) -> bool:
    """Whether it has ended; the machine's init may not have noticed yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("manner", ["deaf", "obedient"])
async def test_cancel(local: Bench, manner: str) -> None:
    job_id = await local.submit(script(manner, "sleep 1000"))
    runaway = psutil.Process(int(await appears(local.work / "runaway")))
    assert os.getsid(runaway.pid) != os.getsid(0)
    await local.scheduler.cancel(USER, job_id)
    assert (await local.end(job_id)).status.state.startswith("CANCELLED")
    assert gone(runaway)


async def test_what_a_script_leaves_behind_goes_with_it(local: Bench) -> None:
    job_id = await local.submit(script("deaf", "exit 3"))
    runaway = psutil.Process(int(await appears(local.work / "runaway")))
    status = (await local.end(job_id)).status
    assert (status.state, status.exit_code) == ("FAILED", 3)
    assert gone(runaway)


async def test_suspend(local: Bench) -> None:
    job_id = await local.submit(script("obedient", "sleep 1000"))
    runaway = psutil.Process(int(await appears(local.work / "runaway")))
    await local.state(job_id, "RUNNING")
    await local.scheduler.suspend(USER, job_id)
    await until(lambda: runaway.status() == psutil.STATUS_STOPPED)
    size = local.file("beats").stat().st_size
    await local.run("true")
    assert local.file("beats").stat().st_size == size
    await local.scheduler.cancel(USER, job_id)
    await local.end(job_id)
    assert gone(runaway)


async def test_a_lost_supervisor(local: Bench) -> None:
    job_id = await local.submit(script("deaf", "sleep 1000"))
    runaway = psutil.Process(int(await appears(local.work / "runaway")))
    supervisor = psutil.Process(int(await local.content("supervisor")))
    assert "crestline.gateway.schedulers.local.supervisor" in supervisor.cmdline()
    supervisor.kill()
    info = await local.end(job_id)
    assert info.status.state == "NODE_FAIL"
    assert info.status.state_reason == "SupervisorLost"
    assert gone(runaway)


async def test_a_supervisor_that_is_asked_to_go_takes_its_job_along(local: Bench) -> None:
    job_id = await local.submit(script("deaf", "sleep 1000"))
    runaway = psutil.Process(int(await appears(local.work / "runaway")))
    psutil.Process(int(await local.content("supervisor"))).terminate()
    info = await local.end(job_id)
    assert (info.status.state, info.status.state_reason) == ("NODE_FAIL", "SupervisorTerminated")
    assert gone(runaway)
