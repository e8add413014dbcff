"""Runs never have more jobs at the scheduler than it takes: a refusal for their number is waited out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crestline.client import connect_blocking
from crestline.client.backends.firecrest import errors as firecrest
from crestline.client.backends.iri.errors import error_from_response
from crestline.client.submit_limits import limit_of
from crestline.gateway.hosts.base import Completed
from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.schedulers.pbs import submission as pbs
from crestline.gateway.schedulers.slurm import submission as slurm
from crestline.model import InvalidRequestError, JobSpec, SubmitLimitError, normalize_state
from crestline_reframe.packing import packs
from crestline_reframe.stage_dirs import StageDir
from crestline_reframe.submit_limit import SubmitLimit
from crestline_reframe.tracked_job import TrackedJob
from harness.cluster import Cluster
from harness.reframe_suite import Suite
from harness.sites import gateway_site
from harness.slurm_gateway import running

CHECKS = Path(__file__).parent / "checks"
POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size"
LIMIT = f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY} and/or time limits)\n"
SIZE = f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY} and/or time limits)\n"
PBS_LIMIT = "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state\n"


@pytest.mark.parametrize("word", ["AssocGrpSubmitJobsLimit", "QOSMaxSubmitJobPerUserLimit", "QOSGrpSubmitJobsLimit"])
def test_slurms_words_for_the_limit(word: str) -> None:
    with pytest.raises(SubmitLimitError, match="when one of your jobs has ended"):
        slurm.job_id_of(Completed(1, b"", LIMIT.replace("AssocMaxSubmitJobLimit", word).encode()))


def test_other_limits_are_faults_of_the_job() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        slurm.job_id_of(Completed(1, b"", SIZE.encode()))
    assert not isinstance(refused.value, SubmitLimitError)


def test_pbs_words_for_the_limit() -> None:
    with pytest.raises(SubmitLimitError):
        pbs.job_id_of(Completed(1, b"", PBS_LIMIT.encode()))


@pytest.mark.parametrize("said", [LIMIT, PBS_LIMIT])
def test_clients_of_every_api_know_the_limit(said: str) -> None:
    import httpx

    request = httpx.Request("POST", "http://gateway/jobs")
    ours = httpx.Response(400, json={"message": "Slurm refused the job.", "causedBy": [said]}, request=request)
    plain = httpx.Response(500, json={"message": f"Unexpected command execution error: {said}"}, request=request)
    iri = httpx.Response(400, json={"detail": said}, request=request)
    for error in (firecrest.error_from_response(ours), firecrest.error_from_response(plain), error_from_response(iri)):
        assert isinstance(error, SubmitLimitError), error


class Scheduler:
    """Takes so many jobs at a time."""

    def __init__(self, limit: SubmitLimit, takes: int) -> None:
        self.limit, self.takes, self.held, self.most, self.refusals = limit, takes, 0, 0, 0
        self.tenth = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self.limit.acquire()
            if self.held < self.takes:
                break
            self.refusals += 1
            if self.refusals == 10:
                self.tenth.set()
            self.limit.refused([""])
        self.held += 1
        self.most = max(self.most, self.held)
        self.limit.accepted()
        await asyncio.sleep(0)
        self.held -= 1
        self.limit.release()


@pytest.mark.anyio
async def test_all_jobs_run_and_each_is_refused_once_at_most() -> None:
    scheduler = Scheduler(SubmitLimit(), 20)
    await asyncio.gather(*(scheduler.run() for _ in range(100)))
    assert (scheduler.most, scheduler.held) == (20, 0)
    assert scheduler.refusals <= 80


@pytest.mark.anyio
async def test_a_limit_that_other_jobs_fill_is_tried_until_it_has_room() -> None:
    scheduler = Scheduler(SubmitLimit(min_interval=0.001, max_interval=0.002), 0)
    runs = asyncio.gather(*(scheduler.run() for _ in range(5)))
    await scheduler.tenth.wait()
    scheduler.takes = 2
    await runs
    assert scheduler.held == 0


@pytest.mark.anyio
async def test_a_job_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    limit = SubmitLimit()
    await limit.acquire()
    await limit.acquire()
    limit.refused([""])
    first, second = (asyncio.ensure_future(limit.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    limit.release()
    await second
    assert first.cancelled()


@pytest.mark.anyio
async def test_a_limit_that_is_known_refuses_none() -> None:
    limit = SubmitLimit()
    limit.set_most(20)
    scheduler = Scheduler(limit, 20)
    await asyncio.gather(*(scheduler.run() for _ in range(100)))
    assert (scheduler.most, scheduler.refusals) == (20, 0)


@pytest.mark.anyio
async def test_jobs_for_idle_nodes_come_first() -> None:
    limit = SubmitLimit()
    limit.set_most(3)
    limit.set_busy(["n2"])
    order: list[str] = []

    async def run(nodes: str) -> None:
        await limit.acquire(nodes)
        order.append(nodes)

    runs = [asyncio.ensure_future(run(nodes)) for nodes in ["n1"] * 3 + ["n2", "n2", "n[3-4]", "n5", ""]]
    await asyncio.sleep(0)
    assert order == ["n1"] * 3  # there was room for all of them
    for nodes in ["n1", "n1", "n[3-4]", "n1", "n2"]:
        limit.release(nodes)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*runs)
    assert order[3:] == ["n[3-4]", "n5", "", "n2", "n2"]


def test_tests_of_the_same_node_are_packed_together(tmp_path: Path) -> None:
    def work(test: str, nodes: str) -> TrackedJob:
        script = f"#!/bin/bash\n#SBATCH --job-name={test}\n#SBATCH --nodelist={nodes}\n"
        return TrackedJob(StageDir(tmp_path, "x"), "run", test, script, frozenset(), (), is_packable=True)

    batch = [work(f"t{number}", f"n{number % 2}") for number in range(4)]
    found, alone = packs(batch, "allocation", 100)
    assert ([[each.test for each in pack.tests] for pack in found], alone) == ([["t0", "t2"], ["t1", "t3"]], [])
    assert [each.nodes for each in batch] == ["n0", "n1", "n0", "n1"]


@pytest.mark.parametrize(
    ("associations", "qualities", "limit"),
    [
        ([["normal", "", "20"]], [["normal", ""]], 20),
        ([["normal", "", ""]], [["normal", "5"]], 5),
        ([["normal", "", "20"]], [["normal", "5"]], 5),
        ([["high,normal", "normal", "20"]], [["normal", "5"], ["high", "1"]], 5),
        ([["high,normal", "", "20"]], [["normal", "5"], ["high", "1"]], 20),
        ([["normal", "", "20"], ["normal", "", "30"]], [], 30),
        ([["normal", "", "20"], ["normal", "", ""]], [], None),
        ([], [], None),
    ],
)
def test_limits_of_accounts_and_their_default_qos(
    associations: list[list[str]], qualities: list[list[str]], limit: int | None
) -> None:
    assert limit_of(associations, qualities) == limit


@pytest.mark.parametrize("pack", [None, "array"])
def test_a_run_waits_until_the_scheduler_takes_more(
    on_local: Suite, monkeypatch: pytest.MonkeyPatch, pack: str | None
) -> None:
    submit, lock = LocalScheduler.submit, asyncio.Lock()
    counts: list[int] = []
    refused: list[int] = []

    async def limited(self: LocalScheduler, user: str, job: Any, key: str | None = None) -> str:
        async with lock:
            jobs = await self.jobs(user, JobQuery())
            there = sum(not normalize_state(each.status.state).is_terminal for each in jobs)
            asked = 1 + job.script.count("exec /bin/bash /dev/fd/9 9<<")
            if there + asked > 3:
                refused.append(asked)
                raise SubmitLimitError("Slurm refused the job.", details=tuple(LIMIT.splitlines()))
            counts.append(there + asked)
            return await submit(self, user, job, key)

    monkeypatch.setattr(LocalScheduler, "submit", limited)
    on_local.variables["RFM_TEST_COUNT"] = "6"
    if pack is not None:
        on_local.firecrest["pack"] = pack
    done = on_local.run("-c", CHECKS / "many.py", "-r")
    assert list(done.results.values()) == ["pass"] * 6, done.output
    assert refused
    assert max(counts) <= 3


@pytest.mark.parametrize(("tests", "most"), [(2, 3), pytest.param(100, 20, marks=pytest.mark.soak)])
def test_a_run_keeps_to_the_limit_of_real_slurm(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, tests: int, most: int
) -> None:
    def limit(number: int) -> None:
        about = ["user", "where", "name=user30", "account=proj", "set", f"MaxSubmitJobs={number}"]
        cluster.check("root", ["sacctmgr", "-i", "modify", *about])

    held = JobSpec(script="#!/bin/sh\n", directives=("--hold",))
    with running(cluster, tmp_path_factory.mktemp("limited") / "home", users=("user30",)) as gateway:
        client_id, secret = gateway.client_of("user30")
        site = gateway_site(gateway, client_id=client_id, client_secret=secret)
        suite = Suite(tmp_path / "suite", site)
        suite.variables["RFM_TEST_COUNT"] = "2"
        limit(2)
        try:
            with connect_blocking(site) as system:
                assert system.remaining_submissions() == 2
                others = [system.submit(held) for _ in range(2)]
                assert system.remaining_submissions() == 0
                with pytest.raises(SubmitLimitError):
                    system.submit(held)
                system.cancel(others.pop())
                done = suite.run("-c", CHECKS / "many.py", "-r")
                system.cancel(others.pop())
            limit(most)
            suite.variables["RFM_TEST_COUNT"] = str(tests)
            sweep = suite.run("-c", CHECKS / "many.py", "--distribute=all", "-r", timeout=3000)
        finally:
            limit(-1)
    assert list(done.results.values()) == ["pass"] * 2, done.output
    assert list(sweep.results.values()) == ["pass"] * tests * 3, sweep.output  # each on each of the three nodes
    for run in (done, sweep):
        assert "wait until the scheduler takes them" not in run.output
