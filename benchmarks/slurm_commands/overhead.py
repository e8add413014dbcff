"""What one call of a Slurm command over the API costs, beside `python -c pass`, and beside Slurm's own in the cluster.

python benchmarks/slurm_commands/overhead.py [--calls 10] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
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

from harness import cluster as clusters  # noqa: E402
from harness.slurm_commands import SlurmCommands  # noqa: E402
from harness.slurm_gateway import running  # noqa: E402


def seconds(call: Callable[[], object], calls: int) -> float:
    """The median of so many calls, after one that is not counted."""
    call()
    took = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


def measure(calls: int) -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as place,
        clusters.started(Path(place)) as cluster,
        running(cluster, Path(place, "home")) as gateway,
    ):
        commands = SlurmCommands(Path(place, "here"))
        client = gateway.client_of("alice")
        commands.add_site("centre", gateway.url, gateway.token_url, client, gateway.system)
        bare = seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), calls)
        rows = [Row("python -c pass", bare, "s", "", None)]
        for words in (["squeue", "--me"], ["sacct", "-X"], ["sinfo"], ["sbatch", "-D", "/home/alice", "--wrap=true"]):
            ours = seconds(lambda words=words: commands(*words), calls)
            there = [*_ssh(cluster), *words]
            raw = seconds(lambda there=there: subprocess.run(there, check=True, capture_output=True), calls)
            rows.append(Row(" ".join(words), ours, "s", "", None, raw, f"ssh host {words[0]}"))
        return rows


def _ssh(cluster: clusters.Cluster) -> list[str]:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    key = ["-i", str(cluster.key("alice")), "-p", str(cluster.port)]
    return ["ssh", *key, *(f"-o{each}" for each in options), f"alice@{cluster.host}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(2 if options.quick else options.calls)
    print(show(rows))
    if options.json:
        write(rows, options.json)


if __name__ == "__main__":
    main()
