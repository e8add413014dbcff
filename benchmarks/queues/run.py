"""Measure what long queues cost the gateway, with clients that poll their jobs once a second.

    python benchmarks/queues/run.py [--quick] [--json FILE]

Needs no cluster: programs of the benchmark answer in Slurm's place. The baseline of each figure is the same traffic
with a queue of 100 jobs, so what is left is the cost of looking at the long one.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import tomlkit

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from report import Row, show, write
from slurm_stand_in import SlurmStandIn

from harness.gateway import GatewayProcess
from harness.ports import free_port

RESULTS = Path(__file__).parent / "results"
BASELINE_JOBS = 100


@dataclass
class Outcome:
    """Of one run."""

    cores: float
    """processor time of the gateway's own process per second"""
    p99: float
    stall: float
    memory: float
    commands_per_second: float
    age: float
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "queues.json")
    arguments = parser.parse_args()
    rows = measure(quick=arguments.quick)
    write(rows, arguments.json)
    print(f"\n{show(rows)}\n\nwritten to {arguments.json}")


def measure(*, quick: bool) -> list[Row]:
    sizes = (2_000, 20_000) if quick else (2_000, 20_000, 100_000)
    clients, seconds = (50, 10) if quick else (200, 60)
    base = run(BASELINE_JOBS, clients, seconds)
    found = {size: run(size, clients, seconds) for size in sizes}
    systems = 5 if quick else 50
    many = run(2_000, clients, seconds, systems=systems)
    jobs = sizes[-1]
    most = found[jobs]
    looking = {size: max(0.0, 100 * (each.cores - base.cores)) for size, each in found.items()}
    who = f"{jobs} jobs, {clients} clients"
    beside = f"{BASELINE_JOBS} jobs"

    def row(what: str, value: float, unit: str, limit: float, raw: float | None) -> Row:
        return Row(f"{who}: {what}", value, unit, f"at most {limit:g} {unit}", value <= limit, raw or None, beside)

    return [
        *(
            Row(f"{size} jobs, {clients} clients: processor time for looking", share, "% of a core", "", None)
            for size, share in looking.items()
            if size != jobs
        ),
        row("processor time for looking", looking[jobs], "% of a core", 10, None),
        row("answers by id, p99", most.p99 * 1000, "ms", 250, base.p99 * 1000),
        row("longest stall", most.stall * 1000, "ms", 50, base.stall * 1000),
        row("peak memory", most.memory, "MiB", 300, base.memory),
        row("oldest answer", most.age, "s", 30, base.age),
        row("scheduler commands", most.commands_per_second, "1/s", 2, base.commands_per_second),
        row("failed answers", most.failed, "answers", 0, None),
        Row(
            f"{systems} systems of 2000 jobs, one more hangs: processor time",
            100 * many.cores,
            "% of a core",
            "under one core",
            many.cores < 1,
        ),
        Row(
            f"{systems} systems of 2000 jobs, one more hangs: failed answers of the others",
            many.failed,
            "answers",
            "none",
            many.failed == 0,
        ),
    ]


def run(jobs: int, clients: int, seconds: int, *, systems: int = 1) -> Outcome:
    """Poll jobs of some systems, each with a queue of so many; of several, one more hangs."""
    user = getpass.getuser()
    with tempfile.TemporaryDirectory(prefix="crestline-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        stand_ins = {f"slurm{number}": SlurmStandIn(folder / f"bin{number}") for number in range(systems)}
        for slurm in stand_ins.values():
            ids = slurm.fill(jobs, [user, *(f"user{number:03}" for number in range(199))])
        hung = {}
        if systems > 1:
            hung["hung"] = SlurmStandIn(folder / "hung")
            hung["hung"].set_delay(3600)
        tables = {
            each: {"scheduler": {"type": "slurm", "directory": str(slurm.directory), "observer": user}}
            for each, slurm in (stand_ins | hung).items()
        }
        config = folder / "site.toml"
        config.write_text(tomlkit.dumps({"issuer": {"token_lifetime": 86400}, "systems": tables}))
        gateway = GatewayProcess(folder / "home", free_port(), "--config", str(config))
        gateway.start()
        targets = [
            f"/compute/{list(stand_ins)[number % systems]}/jobs/{ids[number * len(ids) // clients]}"
            for number in range(clients)
        ]
        try:
            outcome = asyncio.run(poll(gateway, list(stand_ins.values()), targets, list(hung), seconds))
        finally:
            gateway.stop()
    print(f"{systems} systems, {jobs} jobs: {outcome}", flush=True)
    return outcome


async def poll(
    gateway: GatewayProcess, stand_ins: list[SlurmStandIn], paths: list[str], hung: list[str], seconds: int
) -> Outcome:
    """A client for each path asks for it once a second; one more asks the systems that hang."""
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    durations: list[float] = []
    stalls: list[float] = []
    ages: list[float] = [0.0]
    failed = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def get(path: str, into: list[float]) -> None:
            nonlocal failed
            began = time.perf_counter()
            try:
                async with session.get(f"{gateway.url}{path}", headers=headers) as answer:
                    await answer.read()
                    failed += answer.status != 200
                    ages.append(float(answer.headers.get("Age", 0)))
            except (aiohttp.ClientError, TimeoutError):
                failed += 1
            into.append(time.perf_counter() - began)

        async def client(number: int, path: str) -> None:
            for turn in range(seconds):
                await asyncio.sleep(max(0.0, start + turn + number / len(paths) - time.perf_counter()))
                await get(path, durations)

        async def ask(system: str) -> None:
            while True:
                async with session.get(f"{gateway.url}/compute/{system}/jobs", headers=headers) as answer:
                    await answer.read()
                await asyncio.sleep(1)

        async def liveness() -> None:
            while time.perf_counter() < start + seconds:
                await get("/status/liveness", stalls)
                await asyncio.sleep(0.02)

        await asyncio.gather(*(get(path, []) for path in paths))  # the first look at each queue
        for slurm in stand_ins:
            slurm.reset_commands()
        others = [asyncio.create_task(ask(system)) for system in hung]
        used = sum(process.cpu_times()[:2])
        start = time.perf_counter()
        await asyncio.gather(liveness(), *(client(number, path) for number, path in enumerate(paths)))
        elapsed = time.perf_counter() - start
        used = sum(process.cpu_times()[:2]) - used
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    peak = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmHWM" in line)
    durations.sort()
    return Outcome(
        cores=used / elapsed,
        p99=durations[int(0.99 * len(durations))],
        stall=max(stalls),
        memory=int(peak.split()[1]) / 1024,
        commands_per_second=sum(len(slurm.commands()) for slurm in stand_ins) / elapsed,
        age=max(ages),
        failed=failed,
    )


if __name__ == "__main__":
    main()
