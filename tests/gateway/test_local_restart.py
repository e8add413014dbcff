"""What outlives a scheduler."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.options import LocalOptions
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.schedulers.local.supervisor import records
from crestline.model import ConfigError, GatewayUnavailableError
from harness.local_scheduler import PATIENCE, USER, Bench, appears, bench, nodes
from harness.waiting import until

pytestmark = pytest.mark.anyio


def scheduler(directory: Path, config: LocalOptions | None = None, **options: float) -> LocalScheduler:
    (directory / "work").mkdir(exist_ok=True)
    return LocalScheduler(directory / "scheduler", "testing", config or nodes(), **options)


async def left_running(directory: Path, *scripts: str) -> list[str]:
    """Submit the scripts to a scheduler that then stops while they run; each shall write `up.<id>`."""
    first = scheduler(directory)
    await first.start()
    running = Bench(first, directory / "scheduler", directory / "work")
    ids = [await running.submit(f"echo $$ > up.$SLURM_JOB_ID; {script}") for script in scripts]
    for job_id in ids:
        await appears(directory / "work" / f"up.{job_id}")
        await running.state(job_id, "RUNNING")
    await first.stop()
    return ids


async def test_jobs_go_on_and_are_found_again(tmp_path: Path) -> None:
    wait = "while [ ! -e go ]; do sleep 0.01; done;"
    ended, running = await left_running(tmp_path, f"{wait} exit 4", "sleep 1000")
    (tmp_path / "work" / "go").touch()
    record = tmp_path / "scheduler" / "jobs" / ended / records.RECORD
    await until(
        lambda: json.loads(record.read_text())["end"] is not None, PATIENCE
    )  # its supervisor needs no scheduler
    async with bench(tmp_path) as local:
        info = await local.end(ended)
        assert (info.status.state, info.status.exit_code) == ("FAILED", 4)
        assert (await local.state(running, "RUNNING")).time.end is None
        assert {node.alloc_cpus for node in await local.scheduler.nodes(USER)} == {1}
        await local.scheduler.attach(USER, running, "touch attached")
        await local.scheduler.cancel(USER, running)
        assert (await local.end(running)).status.state.startswith("CANCELLED")
        assert int((await local.run("true")).job_id) == int(running) + 1


async def test_jobs_that_wait_are_started_later(tmp_path: Path) -> None:
    first = scheduler(tmp_path)
    await first.start()
    job_id = await Bench(first, tmp_path, tmp_path / "work").submit("#!/bin/sh\n#SBATCH --begin=now+1\necho ran\n")
    await first.stop()
    async with bench(tmp_path) as local:
        assert (await local.end(job_id)).status.state == "COMPLETED"
        assert local.output(job_id) == "ran\n"


async def test_a_reboot(tmp_path: Path) -> None:
    (job_id,) = await left_running(tmp_path, "exec sleep 1000")
    script = psutil.Process(int((tmp_path / "work" / f"up.{job_id}").read_text()))
    supervisor = script.parent()
    assert supervisor is not None
    supervisor.kill()
    script.kill()
    record = tmp_path / "scheduler" / "jobs" / job_id / records.RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    async with bench(tmp_path) as local:
        info = await local.end(job_id)
        assert (info.status.state, info.status.state_reason) == ("NODE_FAIL", "NodeRebooted")
        assert {node.alloc_cpus for node in await local.scheduler.nodes(USER)} == {0}


async def test_one_scheduler_per_directory(tmp_path: Path) -> None:
    async with bench(tmp_path):
        second = scheduler(tmp_path)
        with pytest.raises(ConfigError, match="Another gateway already runs"):
            await second.start()
        await second.stop()
    third = scheduler(tmp_path)
    await third.start()
    await third.stop()


async def test_old_jobs_are_forgotten(tmp_path: Path) -> None:
    first = scheduler(tmp_path)
    await first.start()
    before = Bench(first, tmp_path, tmp_path / "work")
    old = (await before.run("true", key="k")).job_id
    held = await before.submit("#!/bin/sh\n#SBATCH --hold\n", key="held")
    await first.stop()
    async with bench(tmp_path, retention=0.0) as local:

        async def forgotten() -> bool:
            return await local.scheduler.find(USER, "k") is None

        await until(forgotten, PATIENCE)
        assert not (local.home / "jobs" / old).exists()
        assert [info.job_id for info in await local.scheduler.jobs(USER, JobQuery(ids=(old, held)))] == [held]
        assert await local.scheduler.find(USER, "held") == held


async def test_nodes_that_are_configured_anew(tmp_path: Path) -> None:
    first = scheduler(tmp_path)
    await first.start()
    before = Bench(first, tmp_path, tmp_path / "work")
    wide = await before.submit("#!/bin/sh\n#SBATCH -n 4 --begin=now+1\n")
    small = await before.submit("#!/bin/sh\n#SBATCH --begin=now+1\n")
    await first.stop()
    async with bench(tmp_path, nodes("other", cpus=1)) as local:
        assert (await local.end(small)).status.state == "COMPLETED"
        await local.reason(wide, "BadConstraints")


async def test_a_supervisor_runs_a_job_once(tmp_path: Path) -> None:
    """Started again and again, during and after the job, it leaves it alone."""
    async with bench(tmp_path) as local:
        job_id = await local.submit("echo ran >> runs; while [ ! -e go ]; do sleep 0.01; done")
        await local.content("runs")
        engine = local.scheduler._engine
        for _ in range(3):
            engine._launcher.start(int(job_id))
        local.file("go").touch()
        await local.end(job_id)
        pid = engine._launcher.start(int(job_id))
        psutil.Process(pid).wait()
        assert local.file("runs").read_text() == "ran\n"


def test_a_supervisor_starts_fast() -> None:
    """It imports nothing beside the standard library and its own room, and how the package exports its names."""
    code = "import sys, crestline.gateway.schedulers.local.supervisor.supervise; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in loaded if name.startswith("crestline")} == {
        "crestline",
        "crestline.gateway",
        "crestline.gateway.schedulers",
        "crestline.gateway.schedulers.local",
        "crestline.gateway.schedulers.local.supervisor",
        "crestline.gateway.schedulers.local.supervisor.records",
        "crestline.gateway.schedulers.local.supervisor.supervise",
        "crestline.lazy_exports",
    }
    assert not {"psutil", "msgspec", "anyio", "litestar", "subprocess"} & set(loaded)


async def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    """Jobs wait, and the health report says why."""
    async with bench(tmp_path) as local:
        jobs = local.home / "jobs"
        jobs.mkdir(exist_ok=True)
        jobs.rmdir()
        jobs.touch()  # no directory can be made below it
        ids = [await local.submit(f"echo {number} >> ran") for number in range(2)]
        with pytest.raises(GatewayUnavailableError, match="does not work"):
            await pinging(local)
        assert {(await local.info(job_id)).status.state for job_id in ids} == {"PENDING"}
        jobs.unlink()
        for job_id in ids:
            assert (await local.end(job_id)).status.state == "COMPLETED"
        assert sorted(local.file("ran").read_text().split()) == ["0", "1"]
        await local.scheduler.ping()


async def pinging(local: Bench) -> None:
    """Ask for signs of life until one fails to come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await local.scheduler.ping()
        await asyncio.sleep(0.01)


async def test_nonsense_among_the_steps(tmp_path: Path) -> None:
    nonsense = (
        "cd $CRESTLINE_JOB_DIR; mkdir -p steps; echo { > steps/0.json; echo 1 > steps/x.json; echo [] > steps/1.json"
    )
    step = '{"id": 1, "name": [], "state": 0, "start": "x", "end": null, "exit_code": null, "signal": null}'
    async with bench(tmp_path) as local:
        info = await local.run(f"{nonsense}; echo '{step}' > 2.json; srun true")
        assert info.status.state == "COMPLETED"
        assert [task.name for task in info.tasks or []] == ["batch", "true"]


async def test_a_job_whose_directory_vanished(tmp_path: Path) -> None:
    async with bench(tmp_path) as local:
        job_id = await local.submit("#!/bin/sh\n#SBATCH --begin=now+1\n", working_directory=str(local.work))
        shutil.rmtree(local.work)
        info = await local.end(job_id)
        assert info.status.state == "FAILED"
        assert "No such file or directory" in (info.status.state_reason or "")
