"""The client's code on virtual time, against an adversary."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from crestline.client.submit_guard import DUPLICATE_EXIT_CODE, wrap_script
from crestline.testing.simulation import EndlessWaitError, Process, TimeLimitError, VirtualEventLoop, run, shrink
from crestline.testing.simulation.adversary import Adversary
from crestline.testing.simulation.cluster import SimulatedCluster, work
from crestline.testing.simulation.network import FAULTS, OUTAGES, PARTIAL, READ_FAULTS
from crestline.testing.simulation.process import in_process
from crestline.testing.simulation.world import World

SEEDS = Path(__file__).with_name("seeds.txt")
SPAWNING, REFRAMING = "simulation.spawning:Spawning", "simulation.reframing:Reframing"
DEFERRING = "simulation.deferring:Deferring"
GATEWAYS, BUILDING = "simulation.gateways:Gateways", "simulation.building:Building"
SMALL = {"submission": 450, "watching": 300, "copying": 250, "following": 450}
SMALL |= {SPAWNING: 250, REFRAMING: 75, DEFERRING: 125, GATEWAYS: 50, BUILDING: 50}
"""Seeds of a test run; 2,000 in all."""
FULL = 200_000
"""Seeds of a long run, in the same proportions, in as many processes as there are cores."""
OCCASIONS = {
    "submission": ("GET systems", "GET jobs", "POST jobs", "GET job", "GET ls"),
    "copying": ("GET systems", "GET stat", "GET ls", "GET checksum", "GET download", "POST upload", "DELETE rm"),
    "watching": ("GET systems", "GET jobs", "GET job", "DELETE job", "GET metadata"),
    "following": ("GET systems", "GET jobs", "GET stat", "GET tail"),
}
IN_A_TEST = 50


def kept() -> list[tuple[str, int]]:
    lines = [line.split() for line in SEEDS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [(words[0], int(words[1])) for words in lines]


def check(subject: str, seeds: range) -> Counter[tuple[str, str]]:
    """Run them all; the first that fails is kept, shrunk and told."""
    coverage: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        outcome = run(subject, seed)
        coverage += outcome.coverage
        if outcome.violation is not None:
            if (subject, seed) not in kept():
                with SEEDS.open("a") as file:
                    file.write(f"{subject} {seed} {outcome.violation}\n")
            replay = f"python -m crestline.testing.simulation {subject} --seeds {seed}"
            pytest.fail(f"{shrink(outcome).time_line}\n\n{replay}")
    return coverage


@pytest.mark.parametrize(("subject", "seed"), kept())
def test_a_seed_that_failed_once(subject: str, seed: int) -> None:
    check(subject, range(seed, seed + 1))


@pytest.mark.parametrize(
    ("subject", "first"), [(name, first) for name in SMALL for first in range(0, SMALL[name], IN_A_TEST)]
)
def test_seeds(subject: str, first: int) -> None:
    check(subject, range(first, min(first + IN_A_TEST, SMALL[subject])))


def outcomes(subject: str, seeds: range) -> tuple[list[tuple[int, str]], Counter[tuple[str, str]], float, float]:
    """Run them all in this process: what failed, the coverage, seconds of virtual and of processor time."""
    began, failed, simulated = time.process_time(), [], 0.0
    coverage: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        outcome = run(subject, seed)
        coverage += outcome.coverage
        simulated += outcome.seconds
        if outcome.violation is not None:
            failed.append((seed, outcome.violation))
    return failed, coverage, simulated, time.process_time() - began


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("subject", SMALL)
def test_very_many_seeds(subject: str) -> None:
    """Every fault meets every kind of request that it can hit."""
    count = FULL * SMALL[subject] // sum(SMALL.values())
    parts = [range(first, min(first + IN_A_TEST, count)) for first in range(0, count, IN_A_TEST)]
    failed: list[tuple[int, str]] = []
    coverage: Counter[tuple[str, str]] = Counter()
    simulated = took = 0.0
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for found, met, seconds, work_time in pool.map(outcomes, [subject] * len(parts), parts):
            failed += found
            coverage += met
            simulated += seconds
            took += work_time
    print(f"{subject}: {count} seeds, {count / took:.0f} a second of processor time, {simulated / 86400:.1f} days")
    for (kind, occasion), times in sorted(coverage.items(), key=lambda each: each[0][::-1]):
        print(f"{times:9} {occasion:20} {kind}")
    assert not failed, "\n".join(f"{subject} {seed} {violation}" for seed, violation in failed)
    for occasion in OCCASIONS.get(subject, ()):
        kinds = FAULTS + READ_FAULTS if occasion.startswith("GET") else FAULTS
        assert not [kind for kind in kinds if not coverage[kind, occasion]]
    if subject in OCCASIONS:
        assert all(any(kind == f"outage: {name}" for kind, _ in coverage) for name in (*OUTAGES, *PARTIAL))


TRACE = """
import json
from crestline.testing.simulation import run
runs = [(subject, seed) for subject in {subjects} for seed in (3, 7)]
print(json.dumps({{" ".join(map(str, each)): run(*each).time_line for each in runs}}))
"""


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Whatever the hashes of strings, the time and earlier runs are there."""
    traces = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", TRACE.format(subjects=subjects)],
                env={"PYTHONHASHSEED": number, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for number, subjects in (("1", list(SMALL)), ("2", list(reversed(SMALL))))
    ]
    assert traces[0] == traces[1]
    assert "POST jobs: 201" in traces[0]["submission 7"]


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> tuple[float, str]:
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            text = group.create_task(asyncio.to_thread(lambda: "in this thread, at once"))
        return asyncio.get_running_loop().time() - began, await text

    loop = VirtualEventLoop()
    assert loop.run_until_complete(main()) == (pytest.approx(3600), "in this thread, at once")
    loop.close()


def test_a_wait_without_an_end_is_an_error() -> None:
    loop = VirtualEventLoop(limit=100)
    with pytest.raises(EndlessWaitError):
        loop.run_until_complete(asyncio.Event().wait())
    with pytest.raises(TimeLimitError):
        loop.run_until_complete(asyncio.sleep(101))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_killed_process_does_nothing_more() -> None:
    steps: list[int] = []

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(count(number))

    async def count(number: int) -> None:
        while True:
            await asyncio.sleep(1)
            steps.append(number)

    loop = VirtualEventLoop(wrap=in_process)
    process = Process("p", kill_at=12)
    assert loop.run_until_complete(process.run(program())) is False
    assert (len(steps), process.unfinished) == (8, [])
    loop.close()


def test_the_model_of_the_lock_is_what_a_shell_does(tmp_path: Path) -> None:
    """The simulated cluster and /bin/sh agree on which jobs run, whatever the lock says."""
    script = wrap_script(
        f"#!/bin/sh\n{work('key')}\n", name="n-c" + "0" * 20, lock=f"{tmp_path}/.crestline/tag", environment={}
    )
    ids = ["7", "7", "8", "9", "7"]
    (tmp_path / "job.sh").write_text(script.replace(work("key"), "exit 0"))
    shell = [
        subprocess.run(["/bin/sh", "job.sh"], cwd=tmp_path, env={"SLURM_JOB_ID": job_id, "PATH": "/usr/bin:/bin"})
        for job_id in ids
    ]

    async def model() -> list[bool]:
        cluster = SimulatedCluster(World(Adversary(0)))
        cluster.submit(script, str(tmp_path), "n", "test")
        found = []
        for job_id in ids:
            cluster.jobs[0].number = int(job_id)
            found.append(cluster._acquires_lock(cluster.jobs[0]))
        return found

    loop = VirtualEventLoop()
    assert [0 if runs else DUPLICATE_EXIT_CODE for runs in loop.run_until_complete(model())] == [
        each.returncode for each in shell
    ]
    loop.close()


def test_a_violation_is_shrunk_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock, jobs run twice; the shortest form of such a run has few faults."""
    monkeypatch.setattr(SimulatedCluster, "_acquires_lock", lambda *_: True)
    failing = next(outcome for seed in range(500) if (outcome := run("submission", seed)).violation is not None)
    assert failing.violation is not None
    assert "runs twice" in failing.violation
    short = shrink(failing)
    assert short.violation is not None
    assert "runs twice" in short.violation
    assert len(short.faults) <= min(len(failing.faults), 4)
    assert "VIOLATION" in short.time_line
    assert run("submission", short.seed, short.faults).lines == short.lines
