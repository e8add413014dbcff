"""Many jobs that only seem to run: for those who measure how waiting for them scales."""

from __future__ import annotations

import time

from crestline.testing.firecrest.fixture import PlainFirecrest
from crestline.testing.firecrest.job import Job


def add_jobs(plain: PlainFirecrest, count: int, output: str = "one line\n") -> list[str]:
    """Put jobs of the first user into the queue that run until `end_jobs`; all write into one file. Their ids."""
    (plain.home / "seeming.out").write_text(output)
    scheduler = plain.scheduler
    with scheduler._lock:
        first = scheduler._next
        for number in range(first, first + count):
            now = time.time()
            job = Job(
                number=number,
                user=plain.user,
                name="seeming",
                workdir=plain.home,
                script="#!/bin/bash\ntrue\n",
                partition="debug",
                account=plain.user.account,
                time_limit=86400,
                cpus=1,
                submitted=now,
                environment={},
                stdout_pattern="seeming.out",
                state="RUNNING",
                started=now,
                node="n01",
            )
            scheduler._jobs.append(job)
        scheduler._next = first + count
    return [str(number) for number in range(first, first + count)]


def end_jobs(plain: PlainFirecrest) -> float:
    """End all of them at once; returns when that was, in seconds since the epoch."""
    now = time.time()
    with plain.scheduler._lock:
        for job in plain.scheduler._jobs:
            if job.name == "seeming" and not job.is_over:
                job.state, job.ended = "COMPLETED", now
    return now
