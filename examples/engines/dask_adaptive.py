"""dask-jobqueue: workers as jobs, started and ended by how much work waits."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Client

cluster = SLURMCluster(
    cores=1,
    memory="512MiB",
    walltime="00:05:00",
    python=sys.executable,
    log_directory=str(Path.cwd() / "logs"),
    local_directory="/tmp",
    # where the workers reach this machine
    scheduler_options={"host": os.environ.get("ADDRESS", "127.0.0.1"), "dashboard_address": None},
)
with cluster, Client(cluster, timeout=60) as client:
    cluster.adapt(minimum_jobs=0, maximum_jobs=2, interval="500ms", wait_count=2)
    squares = client.map(lambda number: number**2, range(5))
    print("squares", client.gather(squares))
    print("job", client.submit(os.getenv, "SLURM_JOB_NAME").result())
    del squares
    while client.scheduler_info()["workers"]:
        time.sleep(0.5)
    print("workers left", len(client.scheduler_info()["workers"]))
