"""All four hosts at work on one gateway and one cluster, while parts of it die: everything ends as it should.

Nothing runs twice, nothing is lost, nothing stays behind. The small size takes about two minutes; `-m soak` is the full
one, with `CRESTLINE_CHAOS_SECONDS` of faults (600 unless told).
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomlkit

from chaos.faults import Fault, Faults
from chaos.workloads import DAGS, AirflowTasks, CiJobs, HubServers, ReframeRun
from crestline.testing.gitlab_runner import GitLab
from gitlab_runner.site import slurm_site
from harness import airflow_stack, tiny_server
from harness.cluster import Cluster
from harness.gateway import GatewayProcess
from harness.hub import Hub
from harness.hub_settings import HUB, variables
from harness.ports import free_port
from harness.reframe_suite import Suite
from harness.sites import gateway_site
from harness.slurm_gateway import SlurmGateway, prepare

TALLIES = "/scratch/chaos"
SEED = 20260


class Gateway(GatewayProcess, SlurmGateway):
    """In front of the cluster, as a process of its own."""

    system = "cluster"


@dataclass
class Size:
    """How much each host does."""

    airflow_tasks: int
    hub_servers: int
    reframe_tests: int
    ci_jobs: int
    seconds: float
    """of faults, at the least; and until each has happened once"""
    pause: float
    """between two faults, about"""
    patience: float
    """seconds for all to end when there are no more faults"""


SMALL = Size(8, 3, 6, 2, seconds=0, pause=2, patience=300)
FULL = Size(200, 50, 100, 20, seconds=float(os.environ.get("CRESTLINE_CHAOS_SECONDS", "600")), pause=6, patience=1800)


@pytest.fixture
def gateway(cluster: Cluster, tmp_path: Path) -> Iterator[Gateway]:
    home = tmp_path / "home"
    config = tmp_path / "gateway.toml"
    config.write_text(tomlkit.dumps({"systems": {"cluster": prepare(cluster, home)}}))
    process = Gateway(home, free_port(), "--config", str(config))
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="small", marks=pytest.mark.timeout(1200)),
        pytest.param(FULL, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(14400)]),
    ],
)
def test_everything_ends_as_it_should(
    size: Size, cluster: Cluster, gateway: Gateway, gitlab: GitLab, tmp_path: Path
) -> None:
    cluster.check("root", ["sh", "-c", f"rm -rf {TALLIES} && mkdir {TALLIES} && chmod 1777 {TALLIES}"])
    before = queue(cluster)
    with ExitStack() as hosts:
        airflow, hub, reframe, ci = works = _hosts(hosts, size, cluster, gateway, gitlab, tmp_path)
        faults: dict[str, Fault] = {
            "the gateway is killed": lambda seconds: gateway_dies(gateway, seconds),
            "SSH connections are cut": lambda _: cluster.cut_connections(),
            "slurmctld is stopped": lambda seconds: stopped(cluster, "slurmctld", seconds),
            "slurmctld hangs": lambda seconds: hangs(cluster, seconds),
            "slurmdbd is stopped": lambda seconds: stopped(cluster, "slurmdbd", seconds),
            "the triggerer is killed": airflow.triggerer_dies,
            "the hub is killed": hub.hub_dies,
        }
        for work in works:
            work.begin()
        with Faults(faults, SEED, size.pause) as happening:
            time.sleep(size.seconds)
            happening.until_each_happened(1, size.patience)
        outcomes = {
            "Airflow tasks": airflow.outcome(size.patience),
            "hub servers": hub.outcome(size.patience),
            "ReFrame tests": reframe.outcome(size.patience),
            "CI jobs": ci.outcome(size.patience),
        }
        sessions = [name for name in queue(cluster).values() if name.startswith("jupyter-")]
        account(happening.happened, outcomes)
        assert outcomes == {
            "Airflow tasks": Counter(success=size.airflow_tasks),
            "hub servers": Counter(ready=size.hub_servers),
            "ReFrame tests": Counter({"pass": size.reframe_tests}),
            "CI jobs": Counter(success=size.ci_jobs),
        }, reframe.printed + "\n".join(ci.texts)
        assert len(sessions) == size.hub_servers, f"these servers run: {sessions}"
        hub.stop()
        ci.collect()
    runs = tallies(cluster)
    expected = {f"airflow-{number}": 1 for number in range(size.airflow_tasks)}
    assert runs == expected | {f"ci-{number}": 1 for number in range(size.ci_jobs)}, "something ran twice, or never"
    left = wait_until_empty(cluster, before, size.patience)
    assert not left, f"these jobs stay behind: {left}"


def _hosts(
    hosts: ExitStack, size: Size, cluster: Cluster, gateway: Gateway, gitlab: GitLab, place: Path
) -> tuple[AirflowTasks, HubServers, ReframeRun, CiJobs]:
    client_id, secret = gateway.client_of("alice")
    site = gateway_site(gateway, client_id=client_id, client_secret=secret)
    connection = {
        "conn_type": "firecrest",
        "host": site.url,
        "login": site.client_id,
        "password": site.client_secret,
        "extra": {"token_url": site.token_url, "system": site.system},
    }
    dags = DAGS.format(tallies=TALLIES, workdir=TALLIES, count=size.airflow_tasks, number="{number}")
    stack = hosts.enter_context(airflow_stack.running(place / "airflow", dags, {"slurm": connection}))
    (place / "hub").mkdir()
    put(cluster, TALLIES, Path(tiny_server.__file__))
    server = f"{TALLIES}/{Path(tiny_server.__file__).name}"
    program = f"c.FirecRESTSpawner.python = {sys.executable!r}\nc.Spawner.cmd = [{sys.executable!r}, {server!r}]\n"
    hub = hosts.enter_context(
        Hub(place / "hub", HUB + program, variables(gateway, gateway.client_of("alice")), host=cluster.machine)
    )
    suite = Suite(place / "suite", site)
    # Slurm calls its nodes unavailable for some seconds after its controller has come back.
    patient = {"ignore_reqnodenotavail": True, "firecrest": suite.options()}
    suite.partition = {"access": ["--partition=debug"], "sched_options": patient}
    (place / "ci").mkdir()
    driver = slurm_site(place / "ci", gateway)
    return (
        AirflowTasks(stack),
        HubServers(hub, size.hub_servers),
        ReframeRun(suite, size.reframe_tests),
        CiJobs(driver, gitlab, size.ci_jobs, TALLIES),
    )


# faults


def gateway_dies(gateway: Gateway, seconds: float) -> None:
    gateway.kill()
    time.sleep(seconds)
    gateway.start()


def stopped(cluster: Cluster, part: str, seconds: float) -> None:
    cluster.stop(part)
    time.sleep(seconds)
    cluster.start(part)


def hangs(cluster: Cluster, seconds: float) -> None:
    cluster.pause("slurmctld")
    time.sleep(seconds)
    cluster.resume("slurmctld")


# what the cluster knows


def queue(cluster: Cluster) -> dict[str, str]:
    """Names of the jobs that have not ended, by id."""
    listed = cluster.check("root", ["squeue", "--noheader", "--format=%A %j"]).splitlines()
    return dict(line.split(maxsplit=1) for line in listed)


def wait_until_empty(cluster: Cluster, before: dict[str, str], seconds: float) -> dict[str, str]:
    """The jobs beyond those of before that are still there at the end."""
    deadline = time.monotonic() + seconds
    while (left := {job: name for job, name in queue(cluster).items() if job not in before}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.5)
    return left


def tallies(cluster: Cluster) -> dict[str, int]:
    """How often each job has run."""
    script = f"cd {TALLIES} && grep -c '' airflow-* ci-*"
    counts = cluster.check("root", ["sh", "-c", script]).splitlines()
    return {name: int(count) for name, _, count in (line.partition(":") for line in counts)}


def put(cluster: Cluster, directory: str, file: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(file, file.name)
    cluster.put(directory, packed.getvalue())


def account(faults: Counter[str], outcomes: dict[str, Counter[str]]) -> None:
    print("\nfaults:")
    for name, count in sorted(faults.items()):
        print(f"  {count:4} times {name}")
    print("outcomes:")
    for name, outcome in outcomes.items():
        print(f"  {name}: {', '.join(f'{count} {state}' for state, count in outcome.items())}")
