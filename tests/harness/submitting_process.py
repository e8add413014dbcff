"""A process that submits jobs to a `local` scheduler, over and over, until it is killed.

`python submitting_process.py <scheduler directory> <working directory> <journal> <keys>`: job `k<n>` appends its key to
`lines` and exits with n % 7. An answered submission is noted in the journal as `key id`. A key without an answer is
submitted first when the process starts again; some that were answered are submitted once more.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from crestline.gateway.schedulers.local.options import LocalOptions, NodesConfig
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.wire.compute import JobDescription

USER = "alice"
CONFIG = LocalOptions(nodes=[NodesConfig(names=["n1"], cpus=4, memory=4000)])


def script(key: str) -> str:
    return f"#!/bin/sh\necho {key} >> lines\nexit {int(key[1:]) % 7}\n"


async def main(directory: Path, work: Path, journal: Path, keys: int) -> None:
    scheduler = LocalScheduler(directory, "testing", CONFIG)
    await scheduler.start()
    print("started", flush=True)
    answered = [line.split()[0] for line in journal.read_text().splitlines()] if journal.exists() else []
    missing = [key for key in (f"k{number}" for number in range(keys)) if key not in set(answered)]
    with journal.open("a") as file:
        for key in missing:
            for each in (key, *random.sample(answered, min(len(answered), 1))):
                job = JobDescription(working_directory=str(work), script=script(each))
                job_id = await scheduler.submit(USER, job, each)
                file.write(f"{each} {job_id}\n")
                file.flush()
            answered.append(key)
            await asyncio.sleep(random.expovariate(50))
    print("all submitted", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    random.seed(os.getpid())
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
