"""How many deferred tasks one triggerer carries: ours beside one poller per task, on Airflow's real TriggerRunner,
and beside triggers that do nothing, which is what Airflow itself takes.

    .venv/bin/python benchmarks/airflow/waiting.py [--count 10000] [--seconds 60] [--quick] [--json FILE]

Each contender waits for the same jobs in a process
of its own; the gateway is another process, and so is an event loop that does nothing.

Stalls are the longest times for which an event loop did not get to a task that was ready: of the clock, as long as the
bare loop beside it does not stall as well, and of the processor, which is what the contender's own work takes on any
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "tests")]

from report import Row, show, write  # noqa: E402

CONTENDERS = {
    "shared, with output": "crestline_airflow.triggers.FirecRESTJobTrigger",
    "shared": "crestline_airflow.triggers.FirecRESTJobTrigger",
    "one poller per task": "pollers.OnePollerPerTask",
    "triggers that do nothing": "pollers.Nothing",
}
ALONE = "one poller per task"
AIRFLOW = "triggers that do nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="deferred tasks")
    parser.add_argument("--seconds", type=float, default=60.0, help="of quiet waiting that are measured")
    parser.add_argument("--contender", choices=CONTENDERS, help="measure this one alone, in this process")
    parser.add_argument("--quick", action="store_true", help="300 tasks for 10 s: to see that it works")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.count, asked.seconds = 300, 10
    if asked.contender:
        print(json.dumps(asyncio.run(measure(asked.contender, asked.count, asked.seconds))))
        return
    found = {}
    for name in CONTENDERS:
        with tempfile.TemporaryDirectory(prefix="airflow-") as home:
            environment = os.environ | {
                "AIRFLOW_HOME": home,
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
                "CRESTLINE_SITES": f"{home}/sites.toml",
            }
            arguments = ["--contender", name, "--count", str(asked.count), "--seconds", str(asked.seconds)]
            done = subprocess.run(
                [sys.executable, __file__, *arguments], env=environment, stdout=subprocess.PIPE, check=True
            )
            found[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, found[name], file=sys.stderr)
    rows = [row for name in ("shared, with output", "shared") for row in compared(name, asked.count, found)]
    print(show(rows))
    if asked.json:
        write(rows, asked.json)


def compared(name: str, count: int, found: dict[str, dict[str, float]]) -> list[Row]:
    """What one contender needs, beside one poller for each task, and beside Airflow alone."""
    mine, other, floor = found[name], found[ALONE], found[AIRFLOW]
    rows = []
    for column, unit, target, most in (
        ("kB per task", "kB", "under 20 kB", 20),
        ("requests per s", "1/s", "at most 1 a second", 1),
        ("% of a core", "%", "under 10 %", 10),
        ("all known after, s", "s", "none", None),
    ):
        met = None if most is None else mine[column] <= most
        what = f"{name}, {count} tasks: {column.partition(',')[0]}"
        rows.append(Row(what, mine[column], unit, target, met, other[column], ALONE))
        if column in ("kB per task", "% of a core"):
            rows.append(Row(f"{what}, Airflow's included", mine[column], unit, "none", None, floor[column], AIRFLOW))
    for phase in ("starting", "waiting", "all end"):
        clock, bare = mine[f"stall, {phase}, ms of the clock"], mine[f"stall, {phase}, bare loop"]
        what = f"{name}, {count} tasks: longest stall, {phase}"
        rows.append(Row(what, clock, "ms", "at most 200 ms", clock <= 200, bare, "a loop that does nothing"))
        turn = mine[f"stall, {phase}, ms of processor"]
        rows.append(Row(f"{what}, of the processor", turn, "ms", "at most 200 ms", turn <= 200))
    return rows


async def measure(contender: str, count: int, seconds: float) -> dict[str, float]:
    """One contender; see the keys of the answer for what is measured."""
    import gc
    import logging

    import psutil
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)
    from airflow.sdk._shared.module_loading import import_string

    from harness import triggerer
    from harness.waiting import until

    trigger_class = import_string(CONTENDERS[contender])
    site, bare = Site(count), Child("bare_loop.py")
    os.environ["AIRFLOW_CONN_FIRECREST_DEFAULT"] = json.dumps(site.connection)
    process = psutil.Process()
    async with triggerer.running() as at_work:

        def trigger(job_id: str) -> Any:
            if contender == AIRFLOW:
                return trigger_class(job_id)
            if contender == ALONE:
                return trigger_class(connection=site.connection, job_id=job_id)
            return trigger_class("firecrest_default", site.system, job_id, contender == "shared, with output")

        warm = at_work.add(trigger(site.ids[0]))  # imports, sockets and token are everybody's
        await until(lambda: warm in at_work.runner.triggers)
        await asyncio.sleep(5)
        gc.collect()
        await asyncio.sleep(0.1)  # a stall is known when it is over, and this collection is ours
        stalls(at_work, bare)
        memory, begun = process.memory_info().rss, time.perf_counter()
        for number, job_id in enumerate(site.ids[1:]):
            at_work.add(trigger(job_id))
            if number % 50 == 0:  # as Airflow picks them up
                await asyncio.sleep(0)
        await until(lambda: at_work.waiting == count, 600)
        created = time.perf_counter() - begun
        await asyncio.sleep(15)
        starting = stalls(at_work, bare)
        gc.collect()
        memory = process.memory_info().rss - memory
        site.ask("requests")
        await asyncio.sleep(0.1)
        stalls(at_work, bare)
        cpu, begun = process.cpu_times(), time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - begun
        used = process.cpu_times()
        requests = site.ask("requests")
        phases = {"starting": starting, "waiting": stalls(at_work, bare)}
        figures = {
            "kB per task": memory / count / 1000,
            "requests per s": requests / elapsed,
            "% of a core": 100 * (used.user + used.system - cpu.user - cpu.system) / elapsed,
            "created in, s": created,
        }
        if contender != AIRFLOW:
            ended = site.ask("end")
            await until(lambda: len(at_work.events) == count, 600)
            figures["all known after, s"] = time.time() - ended
            phases["all end"] = stalls(at_work, bare)
        return figures | {f"stall, {phase}, {of}": found[of] for phase, found in phases.items() for of in found}


def stalls(at_work: Any, bare: Child) -> dict[str, float]:
    """The longest stalls since the last call, in milliseconds."""
    found = {
        "ms of the clock": 1000 * at_work.longest_stall,
        "bare loop": 1000 * bare.ask("stall"),
        "ms of processor": 1000 * at_work.longest_turn,
    }
    at_work.longest_stall = at_work.longest_turn = 0.0
    return found


class Child:
    """A script of this folder in a process of its own, which answers each line by a line of JSON."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Site(Child):
    """The gateway's process."""

    def __init__(self, count: int) -> None:
        super().__init__("seeming_site.py", str(count))
        ready = self._answer()
        self.connection = ready["connection"]
        self.system = ready["system"]
        self.ids = [str(int(ready["first"]) + number) for number in range(count)]


if __name__ == "__main__":
    main()
