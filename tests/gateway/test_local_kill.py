"""Nothing is lost or run twice, however often the scheduler's process is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

import harness.submitting_process
from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from harness.local_scheduler import PATIENCE
from harness.submitting_process import CONFIG, USER
from harness.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.soak)])
async def test_every_job_runs_once(tmp_path: Path, kills: int) -> None:
    seed = int(os.environ.get("CRESTLINE_SEED", "7"))
    moments = random.Random(seed)
    work, journal, keys = tmp_path / "work", tmp_path / "journal", kills * 10
    work.mkdir()
    arguments = [str(tmp_path / "scheduler"), str(work), str(journal), str(keys)]
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            sys.executable, harness.submitting_process.__file__, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        if moments.random() < 0.8:  # else: while it starts
            assert await process.stdout.readline() == b"started\n"
        await asyncio.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        await process.wait()

    process = await asyncio.create_subprocess_exec(
        sys.executable, harness.submitting_process.__file__, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"all submitted" in await process.stdout.readuntil(b"all submitted\n")
    process.kill()
    await process.wait()

    answers = [line.split() for line in journal.read_text().splitlines()]
    ids = dict(answers)
    assert set(ids) == {f"k{number}" for number in range(keys)}
    assert all(ids[key] == job_id for key, job_id in answers), "a key was answered with two jobs"
    assert len(set(ids.values())) == keys

    scheduler = LocalScheduler(tmp_path / "scheduler", "testing", CONFIG)
    await scheduler.start()
    try:
        await all_ended(scheduler)
        found = {info.job_id: info for info in await scheduler.jobs(USER, JobQuery())}
        assert set(found) == set(ids.values()), "a job whose id no client got, or one that is lost"
        for key, job_id in ids.items():
            number = int(key[1:]) % 7
            status = found[job_id].status
            assert (status.state, status.exit_code) == ("FAILED" if number else "COMPLETED", number), (
                key,
                found[job_id],
            )
            assert await scheduler.find(USER, key) == job_id
        lines = Counter((work / "lines").read_text().split())
        assert lines == Counter(list(ids))
        assert [node.alloc_cpus for node in await scheduler.nodes(USER)] == [0]
    finally:
        await scheduler.stop()


async def all_ended(scheduler: LocalScheduler) -> None:
    async def idle() -> bool:
        return await scheduler.ping() == "0 running, 0 pending"

    await until(idle, 5 * PATIENCE)
