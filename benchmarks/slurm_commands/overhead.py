"""What one call of a Slurm command over the API costs, beside `python -c pass`, and beside Slurm's own in the cluster.

Processor time is the client's own: that of the command, and that of `ssh`.

python benchmarks/slurm_commands/overhead.py [--calls 10] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from report import Row, show, write  # noqa: E402

from harness import cluster as clusters  # noqa: E402
from harness.slurm_commands import BIN, SlurmCommands  # noqa: E402
from harness.slurm_gateway import running  # noqa: E402


class Cost(NamedTuple):
    """Medians of some calls, in seconds."""

    took: float
    processor: float


def cost(command: list[str], calls: int, environment: dict[str, str] | None = None) -> Cost:
    """Of so many calls, after one that is not counted."""
    took, used = [], []
    for _ in range(calls + 1):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        took.append(time.perf_counter() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Cost(statistics.median(took[1:]), statistics.median(used[1:]))


def measure(calls: int) -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as place,
        clusters.started(Path(place)) as cluster,
        running(cluster, Path(place, "home")) as gateway,
    ):
        commands = SlurmCommands(Path(place, "here"))
        client = gateway.client_of("alice")
        commands.add_site("centre", gateway.url, gateway.token_url, client, gateway.system)
        bare = cost([sys.executable, "-c", "pass"], calls)
        rows = [Row("python -c pass", bare.took, "s", "", None)]
        raw = {}
        for words in (["squeue", "--me"], ["sacct", "-X"], ["sinfo"], ["sbatch", "-D", "/home/alice", "--wrap=true"]):
            ours = cost([str(BIN / f"crestline-{words[0]}"), *words[1:]], calls, commands.environment)
            raw[words[0]] = cost([*_ssh(cluster), *words], calls)
            rows.append(Row(" ".join(words), ours.took, "s", "", None, raw[words[0]].took, f"ssh host {words[0]}"))
            if words[0] == "squeue":
                rows.append(_processor("crestline-squeue", ours.processor, raw["squeue"].processor))
        ps = cost([str(BIN / "crestline"), "ps"], calls, commands.environment)
        rows.append(_processor("crestline ps", ps.processor, raw["squeue"].processor))
        shown = cost([str(BIN / "crestline"), "--help"], calls, commands.environment).processor
        what = "crestline --help: processor time"
        return [*rows, Row(what, shown * 1000, "ms", "under 120 ms", shown < 0.12, bare.processor * 1000, "python")]


def _processor(name: str, ours: float, raw: float) -> Row:
    met = ours <= 2.5 * raw
    return Row(f"{name}: processor time", ours * 1000, "ms", "at most 2.5 times", met, raw * 1000, "ssh host squeue")


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
