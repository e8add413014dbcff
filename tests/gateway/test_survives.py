"""A gateway in front of real Slurm while parts of it hang, stop or die: quick refusals, and every job exactly once."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomlkit

from harness.cluster import Cluster
from harness.gateway import GatewayProcess
from harness.parts import require
from harness.ports import free_ports
from harness.slurm_gateway import SlurmGateway, prepare

JOBS = "/compute/cluster/jobs"
TIMEOUT = 4.0
"""seconds that the gateway gives a command of Slurm"""
DEADLINE = 60.0
"""seconds after which a request hangs; far more than the gateway's own limits together, for a busy machine"""
PATIENCE = 180.0


class KillableGateway(GatewayProcess, SlurmGateway):
    """In front of the cluster, as a process of its own."""

    system = "cluster"


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableGateway]:
    home = tmp_path_factory.mktemp("survives") / "home"
    system = prepare(cluster, home)
    system["scheduler"] = {"type": "slurm", "timeout": TIMEOUT, "submit_timeout": TIMEOUT, "max_stale": 0.0}
    system["host"]["timeout"] = {"connection": 8, "login": 8, "command_execution": 8, "keep_alive": 4}
    config = home.with_name("gateway.toml")
    config.write_text(tomlkit.dumps({"systems": {"cluster": system}}))
    process = KillableGateway(home, free_ports(1)[0], "--config", str(config))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def http(gateway: KillableGateway) -> Iterator[httpx.Client]:
    with gateway.http(gateway.client_of("alice")) as client:
        client.timeout = httpx.Timeout(DEADLINE)
        assert client.get(JOBS).status_code == 200
        yield client


def job(name: str, script: str = "true") -> dict[str, Any]:
    return {"job": {"name": name, "workingDirectory": "/scratch", "script": f"#!/bin/sh\n{script}\n"}}


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["message"]


def recovered(what: str, ask: Callable[[], httpx.Response], good: Callable[[httpx.Response], bool]) -> None:
    """Ask until it is good again, and print how long that takes."""
    back = time.monotonic()
    while not good(answer := ask()):
        assert time.monotonic() - back < PATIENCE, answer.text
        time.sleep(0.1)
    print(f"{what}: good again {time.monotonic() - back:.1f} s after its return")


def succeeds(answer: httpx.Response) -> bool:
    return answer.is_success


@contextmanager
def cut_off(cluster: Cluster) -> Iterator[None]:
    with cluster.stopped("sshd"):
        cluster.cut_connections()
        yield


@pytest.mark.parametrize("broken", [Cluster.stopped, Cluster.paused])
def test_slurmctld(
    http: httpx.Client, cluster: Cluster, broken: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    held = http.post(JOBS, json=job("held", "#SBATCH --hold")).json()["jobId"]
    with broken(cluster, "slurmctld"):
        time.sleep(1)  # so old may an answer be
        refused(http.get(f"{JOBS}/{held}"))
        detected = time.monotonic()
        refused(http.get(f"{JOBS}/{held}"))
        took = time.monotonic() - detected
        assert took < TIMEOUT  # known to be down: no request waits for a command
        refused(http.get(JOBS))
        refused(http.post(JOBS, json=job("refused")))
        refused(http.delete(f"{JOBS}/{held}"))
        refused(http.get("/status/cluster/nodes"))
        assert http.get("/status/liveness").status_code == 200
        assert http.get("/filesystem/cluster/ops/ls", params={"path": "/scratch"}).status_code == 200
    with capsys.disabled():
        print(f"\nslurmctld {broken.__name__}: once detected, answered in {took * 1000:.0f} ms")
        recovered(f"slurmctld {broken.__name__}", lambda: http.get(f"{JOBS}/{held}"), succeeds)
    assert http.delete(f"{JOBS}/{held}").status_code == 204


@pytest.mark.parametrize("broken", [Cluster.stopped, Cluster.paused])
def test_slurmdbd(
    http: httpx.Client, cluster: Cluster, broken: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {"ids": "99999901"}
    with broken(cluster, "slurmdbd"):
        submitted = http.post(JOBS, json=job("held", "#SBATCH --hold"))
        assert submitted.status_code == 201
        held = submitted.json()["jobId"]
        refused(http.get(JOBS, params=unknown))
        both = http.get(JOBS, params={"ids": f"{held},99999901"})
        assert {each["jobId"]: each["status"]["state"] for each in both.json()["jobs"]} == {
            held: "PENDING",
            "99999901": "UNKNOWN",
        }
        assert both.headers["Crestline-Partial"]
        assert http.delete(f"{JOBS}/{held}").status_code == 204
    with capsys.disabled():
        recovered(f"\nslurmdbd {broken.__name__}", lambda: http.get(JOBS, params=unknown), succeeds)


def test_sshd(http: httpx.Client, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    ls = {"path": "/scratch"}
    with cut_off(cluster):
        time.sleep(1)
        refused(http.get(JOBS))
        refused(http.get("/filesystem/cluster/ops/ls", params=ls))
        refused(http.post(JOBS, json=job("refused")))
        assert http.get("/status/liveness").status_code == 200
    with capsys.disabled():
        recovered("\nsshd", lambda: http.get("/filesystem/cluster/ops/ls", params=ls), succeeds)
        recovered("sshd, jobs", lambda: http.get(JOBS), succeeds)


def test_a_machine_that_hangs(http: httpx.Client, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.freeze()
    try:
        time.sleep(1)
        refused(http.get(JOBS))
        refused(http.get("/filesystem/cluster/ops/ls", params={"path": "/scratch"}))
        assert http.get("/status/liveness").status_code == 200
    finally:
        cluster.thaw()
    with capsys.disabled():
        recovered("\nthe machine", lambda: http.get(JOBS), succeeds)


FAULTS = (
    *("kill the gateway",) * 3,
    *("cut connections", "pause slurmctld", "stop slurmdbd", "stop sshd", "stop slurmctld"),
)


def strike(fault: str, gateway: KillableGateway, cluster: Cluster, chance: random.Random) -> None:
    """Break something at a random moment, and repair it a random while later."""
    time.sleep(chance.uniform(0, 0.4))
    while_broken = chance.uniform(0, 2)
    if fault == "kill the gateway":
        gateway.kill()
        gateway.start()
    elif fault == "cut connections":
        cluster.cut_connections()
    else:
        verb, part = fault.split()
        with cluster.paused(part) if verb == "pause" else cluster.stopped(part):
            time.sleep(while_broken)


@pytest.mark.parametrize(
    ("submits", "waves"), [(60, 8), pytest.param(1000, 24, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_every_job_exactly_once(
    gateway: KillableGateway, cluster: Cluster, submits: int, waves: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CRESTLINE_SEED", "2026"))
    chance = random.Random(seed)
    run = uuid.uuid4().hex[:8]
    faults = [FAULTS[number % len(FAULTS)] for number in range(waves)]
    chance.shuffle(faults)
    tokens = _Tokens(gateway)
    answered: dict[str, str] = {}
    asked = 0
    with ThreadPoolExecutor(10) as pool:
        for wave, fault in enumerate(faults):
            names = [f"{run}-{number}" for number in range(submits) if number % waves == wave]
            delays = [chance.uniform(0, 0.8) for _ in names]
            submissions = [
                pool.submit(_submit, gateway, tokens, name, delay) for name, delay in zip(names, delays, strict=True)
            ]
            strike(fault, gateway, cluster, chance)
            for name, submission in zip(names, submissions, strict=True):
                answered[name], times = submission.result()
                asked += times
    found = _jobs_named(cluster, run)
    assert sorted(name for _, name in found) == sorted(answered)
    assert {name: job_id for job_id, name in found} == answered
    with capsys.disabled():
        print(f"\n{submits} submits, {asked} requests, {waves} faults (seed {seed}): {len(found)} jobs")


class _Tokens:
    def __init__(self, gateway: KillableGateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def get(self) -> str:
        with self._lock:
            if time.monotonic() > self._until:
                self._token = self._gateway.token(self._gateway.client_of("alice"))
                self._until = time.monotonic() + 120
            return self._token


def _submit(gateway: KillableGateway, tokens: _Tokens, name: str, delay: float) -> tuple[str, int]:
    """Repeat one submission until it has an id, as every client does; returns the id and the number of requests."""
    time.sleep(delay)
    url, tries = f"{gateway.url}{JOBS}", 0
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        tries += 1
        pause = 0.2
        try:
            headers = {"Authorization": f"Bearer {tokens.get()}", "Idempotency-Key": name}
            answer = httpx.post(url, json=job(name), headers=headers, timeout=DEADLINE, trust_env=False)
            if answer.status_code == 201:
                return answer.json()["jobId"], tries
            assert answer.status_code in (409, 503), answer.text
            assert "Retry-After" in answer.headers
            pause = float(answer.headers["Retry-After"])
        except httpx.TimeoutException:
            raise AssertionError(f"a request hung for {DEADLINE} s") from None
        except httpx.TransportError:  # the gateway is dead at the moment
            pass
        time.sleep(pause)
    raise TimeoutError(name)


def _jobs_named(cluster: Cluster, run: str) -> set[tuple[str, str]]:
    """Ids and names of all jobs of a run, from any of Slurm's daemons."""
    rows = cluster.check("root", ["squeue", "--noheader", "--states=all", "--format=%A %j"])
    rows += cluster.check(
        "root", ["sacct", "-nPX", "--allusers", "--starttime=now-1day", "--delimiter= ", "-oJobID,JobName"]
    )
    pairs = (row.split() for row in rows.splitlines())
    return {(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[1].startswith(f"{run}-")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], check=False)
    require(mount.returncode == 0, "no file system can be mounted here: run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_under_the_store(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "home").mkdir(mode=0o700)
    process = GatewayProcess(small_disk / "home", free_ports(1)[0])
    process.start()
    try:
        submission = {"job": {"workingDirectory": str(process.home / "files"), "script": "#!/bin/sh\ntrue\n"}}
        with process.http() as http:
            first = http.post("/compute/local/jobs", json=submission, headers={"Idempotency-Key": "first"})
            assert first.status_code == 201
            ballast = small_disk / "ballast"
            with ballast.open("wb", buffering=0) as file:
                for size in (65536, 512, 1):
                    _fill(file, size)
            answer = http.post("/compute/local/jobs", json=submission, headers={"Idempotency-Key": "second"})
            refused(answer)
            assert http.get("/status/liveness").status_code == 200
            jobs = http.get("/compute/local/jobs")
            assert [each["jobId"] for each in jobs.json()["jobs"]] == [first.json()["jobId"]]
            again = http.post("/compute/local/jobs", json=submission, headers={"Idempotency-Key": "first"})
            assert again.json() == first.json()
            ballast.unlink()
            with capsys.disabled():
                recovered(
                    "\nthe disk",
                    lambda: http.post("/compute/local/jobs", json=submission, headers={"Idempotency-Key": "second"}),
                    succeeds,
                )
            assert len(http.get("/compute/local/jobs").json()["jobs"]) == 2
    finally:
        process.stop()


def _fill(file: Any, size: int) -> None:
    try:
        while True:
            file.write(b"\0" * size)
    except OSError:
        return
