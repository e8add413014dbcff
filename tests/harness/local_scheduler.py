"""A `local` scheduler on a directory of its own, and short words for what tests do with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.options import LocalOptions, NodesConfig, PartitionConfig
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.wire.compute import JobDescription, JobInfo
from harness.waiting import until

USER = "alice"
PATIENCE = 60.0  # seconds; the machine may be busy
LIVE = ("PENDING", "RUNNING", "SUSPENDED")


def nodes(*names: str, cpus: int = 4, memory: int = 8000, **partitions: Any) -> LocalOptions:
    """Virtual nodes; `partitions` as name=PartitionConfig options."""
    return LocalOptions(
        nodes=[NodesConfig(names=list(names or ("n1",)), cpus=cpus, memory=memory)],
        partitions=[PartitionConfig(name=name, **options) for name, options in partitions.items()] or None,
    )


class Bench:
    """A scheduler and a directory `work` to run jobs in."""

    def __init__(self, scheduler: LocalScheduler, home: Path, work: Path) -> None:
        self.scheduler = scheduler
        self.home = home
        self.work = work

    async def submit(self, script: str, *, user: str = USER, key: str | None = None, **fields: Any) -> str:
        """Submit `script`; without an interpreter line it is one of sh."""
        text = script if script.startswith("#!") else f"#!/bin/sh\n{script}\n"
        job = JobDescription(**{"working_directory": str(self.work), "script": text} | fields)
        return await self.scheduler.submit(user, job, key)

    async def all(self, job_id: str, user: str = USER) -> list[JobInfo]:
        return await self.scheduler.jobs(user, JobQuery(ids=(job_id,)))

    async def info(self, job_id: str) -> JobInfo:
        (info,) = await self.all(job_id)
        return info

    async def until(self, job_id: str, accept: Callable[[JobInfo], bool]) -> JobInfo:
        """The job once `accept` likes it."""

        async def accepted() -> JobInfo | None:
            info = await self.info(job_id)
            return info if accept(info) else None

        info = await until(accepted, PATIENCE, what=f"what the test waits for of job {job_id}")
        assert info is not None
        return info

    async def state(self, job_id: str, state: str) -> JobInfo:
        return await self.until(job_id, lambda info: info.status.state == state)

    async def reason(self, job_id: str, reason: str) -> JobInfo:
        return await self.until(job_id, lambda info: info.status.state_reason == reason)

    async def end(self, job_id: str) -> JobInfo:
        return await self.until(job_id, lambda info: info.status.state not in LIVE)

    async def run(self, script: str, **fields: Any) -> JobInfo:
        """Submit and wait for the end."""
        return await self.end(await self.submit(script, **fields))

    def output(self, job_id: str) -> str:
        return (self.work / f"slurm-{job_id}.out").read_text()

    def file(self, name: str) -> Path:
        return self.work / name

    async def content(self, name: str) -> str:
        """Of a file that a job writes, once it ends with a line break."""
        return await appears(self.work / name)


async def appears(path: Path) -> str:
    """Content of a file once it ends with a line break."""
    return await until(
        lambda: text if path.exists() and (text := path.read_text()).endswith("\n") else "", PATIENCE, what=f"no {path}"
    )


@asynccontextmanager
async def bench(
    directory: Path, config: LocalOptions | None = None, *, kill_wait: float = 5.0, **options: Any
) -> AsyncIterator[Bench]:
    """A running scheduler in `directory`; all its jobs are ended at last."""
    work = directory / "work"
    work.mkdir(exist_ok=True)
    home = directory / "scheduler"
    scheduler = LocalScheduler(home, "testing", config or nodes(), kill_wait=kill_wait, **options)
    await scheduler.start()
    try:
        yield Bench(scheduler, home, work)
    finally:
        await end_all(scheduler)
        await scheduler.stop()


async def end_all(scheduler: LocalScheduler) -> None:
    """Cancel every job, and see it gone."""
    deadline = time.monotonic() + PATIENCE
    cancelled: set[str] = set()
    while live := [info for info in await scheduler.jobs("", JobQuery(all_users=True)) if info.status.state in LIVE]:
        assert time.monotonic() < deadline, live
        for info in live:
            if info.job_id not in cancelled:
                await scheduler.cancel(info.user or "", info.job_id)
                cancelled.add(info.job_id)
        await asyncio.sleep(0.01)
