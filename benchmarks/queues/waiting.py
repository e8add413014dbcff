"""What it costs one process to wait for 50,000 jobs with `System.wait`, on each API.

    python benchmarks/queues/waiting.py [--jobs 50000] [--seconds 60] [--quick] [--json FILE]

The gateways are processes of their own; programs of the benchmark answer in Slurm's place. The baseline is a process
that asks for each job every 30 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import tomlkit

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "airflow"), str(ROOT / "tests")]

from report import Row, show, write  # noqa: E402
from slurm_stand_in import SlurmStandIn  # noqa: E402

from crestline.client import Site, connect  # noqa: E402
from harness.gateway import GatewayProcess  # noqa: E402
from harness.ports import free_port  # noqa: E402

INTERVAL = 30
"""seconds between two requests for one job, in the baseline"""


@contextmanager
def crestline_gateway(jobs: int) -> Iterator[tuple[Site, list[str], Callable[[], object]]]:
    """Its site, the ids of its jobs, and what ends all of them."""
    with tempfile.TemporaryDirectory(prefix="crestline-bench-", dir="/var/tmp") as name:
        folder, user = Path(name), getpass.getuser()
        slurm = SlurmStandIn(folder / "bin")
        ids = slurm.fill(jobs, [user])
        config = folder / "site.toml"
        systems = {"slurm": {"scheduler": {"type": "slurm", "directory": str(slurm.directory), "observer": user}}}
        config.write_text(tomlkit.dumps({"issuer": {"token_lifetime": 86400}, "systems": systems}))
        gateway = GatewayProcess(folder / "home", free_port(), "--config", str(config))
        gateway.start()
        try:
            yield Site(name="bench", url=gateway.url, system="slurm", token=gateway.token()), ids, slurm.end
        finally:
            gateway.stop()


@contextmanager
def plain_firecrest(jobs: int) -> Iterator[tuple[Site, list[str], Callable[[], object]]]:
    """The same of a plain FirecREST."""
    command = [sys.executable, str(ROOT / "benchmarks" / "airflow" / "seeming_site.py"), str(jobs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        connection, first = said["connection"], int(said["first"])

        def end() -> None:
            assert process.stdin is not None
            process.stdin.write("end\n")
            process.stdin.flush()

        site = Site(
            name="bench",
            url=connection["host"],
            system=said["system"],
            client_id=connection["login"],
            client_secret=connection["password"],
            token_url=connection["extra"]["token_url"],
        )
        try:
            yield site, [str(first + number) for number in range(jobs)], end
        finally:
            process.stdin.close()


async def wait_for_all(site: Site, ids: list[str], end: Callable[[], object], seconds: float) -> dict[str, float]:
    """Wait for all jobs, end them after so many seconds of quiet."""
    me = psutil.Process()
    async with connect(site) as system:
        before = me.memory_info().rss
        began, used = time.perf_counter(), sum(me.cpu_times()[:2])
        waiting = [asyncio.create_task(system.wait(each)) for each in ids]
        some = ids[:: max(1, len(ids) // 100)]
        while any(not system.monitor.snapshot(each).raw_state for each in some):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        known, known_used = time.perf_counter() - began, sum(me.cpu_times()[:2]) - used
        requests, used = system.traffic.requests, sum(me.cpu_times()[:2])
        stall, start = 0.0, time.perf_counter()
        while (now := time.perf_counter()) < start + seconds:
            await asyncio.sleep(0.02)
            stall = max(stall, time.perf_counter() - now - 0.02)
        used = sum(me.cpu_times()[:2]) - used
        requests = system.traffic.requests - requests
        await asyncio.to_thread(end)
        ended = time.perf_counter()
        ended_used = sum(me.cpu_times()[:2])
        await asyncio.gather(*waiting)
        return {
            "seconds until all are known": known,
            "processor seconds until all are known": known_used,
            "processor time while all wait": 100 * used / seconds,
            "requests while all wait": requests * 60 / seconds,
            "longest stall while all wait": 1000 * stall,
            "seconds until all ends are known": time.perf_counter() - ended,
            "processor seconds for the ends": sum(me.cpu_times()[:2]) - ended_used,
            "memory": (me.memory_info().rss - before) / 2**20,
        }


UNITS = {"seconds": "s", "processor seconds": "s", "memory": "MiB", "requests": "1/min", "longest stall": "ms"}
LIMITS = {"processor time while all wait": (10, "% of a core"), "requests while all wait": (60, "1/min")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60, help="of quiet waiting that are measured")
    parser.add_argument("--api", choices=("crestline", "plain"), help="this one alone")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.jobs, asked.seconds = 2000, 10
    rows = []
    for name, place in (("crestline", crestline_gateway), ("plain", plain_firecrest)):
        if asked.api in (None, name):
            with place(asked.jobs) as (site, ids, end):
                found = asyncio.run(wait_for_all(site, ids, end, asked.seconds))
            for what, value in found.items():
                print(f"{name}: {what}: {value:.3g}", flush=True)
                rows.append(_row(f"{name}, {asked.jobs} jobs: {what}", what, value, asked.jobs))
    print(show(rows))
    if asked.json:
        write(rows, asked.json)


def _row(title: str, what: str, value: float, jobs: int) -> Row:
    if what in LIMITS:
        limit, unit = LIMITS[what]
        polled = 60 / INTERVAL * jobs if unit == "1/min" else None
        return Row(
            title, value, unit, f"at most {limit:g} {unit}", value <= limit, polled, "a request for each in 30 s"
        )
    unit = next(unit for start, unit in UNITS.items() if what.startswith(start))
    return Row(title, value, unit, "", None)


if __name__ == "__main__":
    main()
