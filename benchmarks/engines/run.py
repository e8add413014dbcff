"""What workflow engines take with Crestline's commands, beside the same engine with Slurm's own in the cluster.

The programs are those of examples/engines. For each: whole seconds, requests to the gateway for each job, and
the remote procedure calls that slurmctld answered meanwhile (`sdiag`).

python benchmarks/engines/run.py [--runs 3] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from report import Row, show, write  # noqa: E402

from harness.cluster import Cluster, started  # noqa: E402
from harness.slurm_commands import BIN, SlurmCommands  # noqa: E402
from harness.slurm_gateway import running  # noqa: E402

ENGINES = {"simple-slurm": "simple_slurm_chain", "submitit": "submitit_sums", "PSI/J": "psij_states"}


class RequestCount(logging.Handler):
    """Counts the lines of the gateway's access log."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        logger = logging.getLogger("crestline.access")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def calls(cluster: Cluster) -> int:
    """Remote procedure calls that slurmctld has answered since the last reset of its statistics."""
    shown = cluster.check("root", ["sdiag"]).partition("statistics by user")[2].partition("Pending RPC")[0]
    return sum(map(int, re.findall(r"count:(\d+)", shown)))


def jobs(cluster: Cluster) -> set[str]:
    """Jobs and tasks of arrays that slurmctld knows; it forgets them five minutes after their end."""
    return set(cluster.check("root", ["squeue", "-hr", "-t", "all", "-o", "%A"]).split())


def measured(cluster: Cluster, run: Callable[[], None], runs: int) -> tuple[float, float, float]:
    """Median seconds of a run, calls of slurmctld for each job, and how many jobs all runs had."""
    took: list[float] = []
    seen = known = jobs(cluster)
    before = calls(cluster)
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        took.append(time.perf_counter() - begin)
        seen = seen | jobs(cluster)
    after, submitted = calls(cluster) - runs, len(seen - known)
    return statistics.median(took), (after - before) / submitted, submitted


def measure(runs: int) -> list[Row]:
    rows = []
    with (
        tempfile.TemporaryDirectory() as place,
        started(Path(place)) as cluster,
        running(cluster, Path(place, "home")) as gateway,
    ):
        commands = SlurmCommands(Path(place, "here"))
        client = gateway.client_of("alice")
        commands.add_site("centre", gateway.url, gateway.token_url, client, gateway.system)
        links = commands.link(Path(place, "slurm"))
        requests = RequestCount()
        path = os.pathsep.join([str(links), str(BIN), os.environ["PATH"]])
        user = {"USER": "alice", "LOGNAME": "alice", "PYTHONWARNINGS": "ignore"}
        for engine, program in ENGINES.items():
            directory = Path(tempfile.mkdtemp(dir=cluster.shared))
            directory.chmod(0o1777)
            shutil.copy(ROOT / "examples" / "engines" / f"{program}.py", directory)
            argv = [sys.executable, f"{directory}/{program}.py"]
            environment = commands.environment | user | {"PATH": path, "HOME": place}

            def ours(argv: list[str] = argv, directory: Path = directory, env: dict[str, str] = environment) -> None:
                subprocess.run(argv, cwd=directory, env=env, umask=0, check=True, capture_output=True, timeout=600)

            def theirs(argv: list[str] = argv, directory: Path = directory) -> None:
                cluster.check("alice", argv, cwd=str(directory), env=user | {"HOME": "/home/alice"})

            requests.count = 0
            took, load, submitted = measured(cluster, ours, runs)
            asked = requests.count / submitted
            raw, raw_load, _ = measured(cluster, theirs, runs)
            rows += [
                Row(f"{engine}: whole time", took, "s", "at most 1.3 times", took <= 1.3 * raw, raw, "Slurm's own"),
                Row(f"{engine}: requests for each job", asked, "", "", None),
                Row(f"{engine}: calls of slurmctld for each job", load, "", "", None, raw_load, "Slurm's own"),
            ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(1 if options.quick else options.runs)
    print(show(rows))
    if options.json:
        write(rows, options.json)


if __name__ == "__main__":
    main()
