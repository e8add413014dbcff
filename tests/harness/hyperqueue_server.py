"""A HyperQueue server with two workers, until its standard input closes: `python -m harness.hyperqueue_server`."""

from __future__ import annotations

import sys

from hyperqueue import LocalCluster
from hyperqueue.cluster import WorkerConfig

if __name__ == "__main__":
    with LocalCluster() as cluster:
        for _ in range(2):
            cluster.start_worker(WorkerConfig(cores=1))
        sys.stderr.write(f"directory={cluster.cluster.server_dir}\n")
        sys.stderr.flush()
        sys.stdin.read()
