"""Several sites behind one client: which one a job goes to, and that a key never has two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from crestline.client import Policy, RetryPolicy, choose_system, connect, connect_any, register_site, sites_file
from crestline.client.federation import ledger
from crestline.client.federation.probe import health_problem, rejection_reason
from crestline.client.federation.requirements import Requirements, requirements_of
from crestline.model import ConfigError, InvalidRequestError, JobSpec, Node, NoEligibleSiteError, Partition
from crestline.testing.firecrest import PlainFirecrest, running
from harness.command import Command
from harness.gateway import RunningGateway, in_thread
from harness.slurm_gateway import SlurmGateway

pytestmark = pytest.mark.anyio

AWAY = {"url": "http://127.0.0.1:9", "api_key": "crk_of-no-gateway"}
"""without a token endpoint, which is given more time to answer"""

HELLO = "#!/bin/bash\necho hello\n"


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (JobSpec(script=HELLO), Requirements(None, 1, 1, None)),
        (JobSpec(script=HELLO, nodes=3, time_limit="1-00", partition="p"), Requirements("p", 3, 3, 86400)),
        (JobSpec(script="#!/bin/sh\n#SBATCH -N 2-4 -t 10 -p q\n#SBATCH -n 8 -c 2\n"), Requirements("q", 2, 16, 600)),
        (JobSpec(script="#!/bin/sh\n#SBATCH -N 2 -t 10\n", nodes=1, time_limit=30), Requirements(None, 1, 1, 30)),
        (JobSpec(script=HELLO, directives=("--nodes=5",), tasks_per_node=4), Requirements(None, 5, 20, None)),
    ],
)
def test_what_a_job_asks_for(spec: JobSpec, needs: Requirements) -> None:
    assert requirements_of(spec) == needs


IDLE = [Node(name=f"n{number}", states=frozenset({"IDLE"}), partitions=frozenset({"p"}), cpus=4) for number in range(3)]
DOWN = [Node(name="n9", states=frozenset({"DOWN"}), partitions=frozenset({"p"}), cpus=4)]


@pytest.mark.parametrize(
    ("needs", "partition", "words"),
    [
        (Requirements("p", 3, 12, 600), Partition(name="p", nodes=4, max_time=600, state="UP"), None),
        (Requirements("p", 4, 4, None), Partition(name="p", nodes=4), "3 nodes for a job, and it needs 4"),
        (Requirements("p", 2, 2, None), Partition(name="p", nodes=4, max_nodes=1), "1 nodes for a job"),
        (Requirements("p", 1, 13, None), Partition(name="p", nodes=4), "12 cores, and it needs 13"),
        (Requirements("p", 1, 1, 601), Partition(name="p", nodes=4, max_time=600), "allows 600 s, and it needs 601 s"),
        (Requirements("p", 1, 1, None), Partition(name="p", nodes=4, state="DOWN"), "is DOWN"),
        (Requirements("q", 1, 1, None), Partition(name="p", nodes=4), "no partition 'q'"),
        (Requirements(None, 1, 1, 601), Partition(name="p", nodes=4, max_time=600, default=True), "allows 600 s"),
    ],
)
def test_limits_of_partitions(needs: Requirements, partition: Partition, words: str | None) -> None:
    found = rejection_reason(needs, [partition], IDLE + DOWN)
    assert found is None if words is None else words in (found or "")


def test_health() -> None:
    well = {"serviceType": "scheduler", "healthy": True}
    assert health_problem({"servicesHealth": [well, {"serviceType": "s3", "healthy": False}]}) is None
    ill = {"serviceType": "filesystem", "path": "/scratch", "healthy": False, "message": "gone"}
    assert health_problem({"servicesHealth": [well, ill]}) == "its filesystem /scratch is not healthy: gone"
    assert health_problem({}) is None


def test_the_ledger_keeps_what_was_first() -> None:
    assert ledger.noted("k") is None
    assert ledger.note("k", "a@here") == "a@here"
    assert ledger.note("k", "b@there") == "a@here"
    assert ledger.noted("k") == "a@here"
    folder = sites_file().with_name("federation")
    assert [each.name.startswith(".") for each in folder.iterdir()] == [False]
    ledger.forget("k")
    assert ledger.noted("k") is None


@dataclass
class Two:
    """A small site and a large one."""

    small: RunningGateway
    large: SlurmGateway

    def add(self, name: str, **changes: Any) -> None:
        gateway = self.small if name == "small" else self.large
        client = gateway.client if name == "small" else self.large.client_of("alice")
        values = {"url": gateway.url, "token_url": gateway.token_url, "system": gateway.system}
        register_site(name, **(values | {"client_id": client[0], "client_secret": client[1]} | changes))


@pytest.fixture(scope="module")
def small_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One node with two cores, and jobs of ten minutes at most."""
    scheduler = {
        "type": "local",
        "nodes": [{"names": ["one"], "cpus": 2, "memory": 4096}],
        "partitions": [{"name": "short", "max_time": 600}],
    }
    with in_thread(tmp_path_factory.mktemp("small") / "home", systems={"local": {"scheduler": scheduler}}) as gateway:
        yield gateway


@pytest.fixture
def two(small_gateway: RunningGateway, slurm_gateway: SlurmGateway) -> Two:
    sites = Two(small_gateway, slurm_gateway)
    sites.add("small")
    sites.add("large")
    return sites


async def test_limits_decide(two: Two) -> None:
    large = await choose_system(JobSpec(script=HELLO, nodes=2))
    assert large.target == "cluster@large"
    assert "1 nodes for a job, and it needs 2" in large.reasons["local@small"]
    long = await choose_system(JobSpec(script=HELLO, time_limit="02:00:00"))
    assert long.target == "cluster@large"
    assert "allows 600 s, and it needs 7200 s" in long.reasons["local@small"]
    named = await choose_system(JobSpec(script="#!/bin/sh\n#SBATCH --partition=short\n"))
    assert named.target == "local@small"
    assert "no partition 'short'" in named.reasons["cluster@large"]


async def test_no_site_is_large_enough(two: Two) -> None:
    with pytest.raises(NoEligibleSiteError) as refused:
        await choose_system(JobSpec(script=HELLO, nodes=64))
    assert set(refused.value.reasons) == {"local@small", "cluster@large"}
    assert "needs 64" in str(refused.value)


async def test_the_shorter_queue(two: Two) -> None:
    only = JobSpec(script=HELLO, time_limit=60)
    async with connect("small") as small:
        held = [await small.submit(JobSpec(script=HELLO, directives=("--hold",))) for _ in range(40)]
        try:
            choice = await choose_system(only)
            assert choice.target == "cluster@large"
            assert "jobs wait there" in choice.reasons["local@small"]
        finally:
            for job in held:
                await small.cancel(job)
    assert (await choose_system(only, "any:small")).target == "local@small"


async def test_a_site_that_is_down_is_passed_over(two: Two) -> None:
    two.add("small", **AWAY)
    choice = await choose_system(JobSpec(script=HELLO))
    assert choice.target == "cluster@large"
    assert choice.reasons["local@small"].startswith("no answer: No gateway is listening at ")  # without a wait for it


async def test_a_key_goes_where_it_went(two: Two) -> None:
    spec = JobSpec(script=HELLO, time_limit=60)
    first = await choose_system(spec, "any:small,large", key="again/1")
    async with connect(first.target) as system:
        job = await system.submit(spec, key="again/1")
    two.add("small", **AWAY)
    two.add("large", **AWAY)
    again = await choose_system(spec, key="again/1")
    assert (again.target, again.again) == (first.target, True)
    with pytest.raises(NoEligibleSiteError, match="went to a site that does not answer"):
        async with connect_any(spec, key="again/1", policy=Policy(retry=RetryPolicy(attempts=1, total_timeout=5))):
            pass
    two.add("small")
    two.add("large")
    async with connect_any(spec, key="again/1") as system:
        assert (await system.submit(spec, key="again/1")).job_id == job.job_id


@pytest.mark.parametrize("where", ["small", "large"])
async def test_another_machine_finds_the_job_of_a_key(two: Two, where: str) -> None:
    key = f"elsewhere/{where}"
    spec = JobSpec(script=HELLO, time_limit=60)
    async with connect(where) as system:
        await system.submit(spec, key=key)
    found = await choose_system(spec, key=key)  # nothing is written down here
    assert found.target.endswith(f"@{where}")
    assert found.again
    ledger.forget(key)
    two.add(where, **AWAY)
    with pytest.raises(NoEligibleSiteError, match="may have the job of this key already") as refused:
        await choose_system(spec, key=key)
    assert [each.rpartition("@")[2] for each in refused.value.reasons] == [where]


async def test_a_refused_job_may_go_elsewhere(two: Two) -> None:
    with pytest.raises(InvalidRequestError):
        async with connect_any(JobSpec(script=HELLO), "any:small", key="refused/1") as system:
            await system.submit(JobSpec(script=HELLO, partition="nowhere"), key="refused/1")
    choice = await choose_system(JobSpec(script=HELLO, nodes=2), key="refused/1")
    assert (choice.target, choice.again) == ("cluster@large", False)


async def test_many_at_once_agree(two: Two) -> None:
    spec = JobSpec(script=HELLO, time_limit=60)
    found: set[str] = set()

    async def one() -> None:
        async with connect_any(spec, key="race/1") as system:
            job = await system.submit(spec, key="race/1")
            found.add(f"{job.job_id} {system.target}")

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(one)
    assert len(found) == 1


async def test_plain_firecrest_among_them(two: Two) -> None:
    with running(version="2.6.0") as plain:
        _add_plain(plain)
        spec = JobSpec(script=HELLO)
        async with connect("plain") as system:
            job = await system.submit(spec, key="plain/1")
        found = await choose_system(spec, "any:small,plain", key="plain/1")
        assert found.target == f"{plain.system}@plain"
        async with connect_any(spec, "any:small,plain", key="plain/1") as system:
            assert (await system.submit(spec, key="plain/1")).job_id == job.job_id
        assert len(plain.jobs()) == 1


async def test_no_sites() -> None:
    with pytest.raises(ConfigError, match="No sites are configured"):
        await choose_system(JobSpec(script=HELLO))


async def test_on_the_command_line(two: Two, tmp_path: Path) -> None:
    crestline = Command(tmp_path / "cli")
    crestline.sites_file.write_bytes(sites_file().read_bytes())
    crestline.sites_file.chmod(0o600)
    (crestline.place / "job.sh").write_text(HELLO)
    submit = ("submit", "--site", "any", "--nodes", "2", "--key", "cli/1", "--wait", "job.sh")
    assert "The job goes to cluster@large." in crestline(*submit).stderr.decode()
    first = crestline.json(*submit[:-2], "job.sh")
    assert first["site"] == "cluster@large"
    assert crestline.json(*submit[:-2], "job.sh") == first
    done = crestline("run", "--site", "any:small", "--key", "cli/2", "echo", "from here")
    assert done.stdout == b"from here\n"
    assert crestline("run", "--site", "any", "--key", "cli/2", "echo", "from here").stdout == b"from here\n"
    refused = crestline.refused("run", "--site", "any", "--nodes", "64", "true", code=69)
    assert "local@small: partition short has 1 nodes" in refused
    assert "cluster@large: partition debug has 3 nodes" in refused
    error = json.loads(crestline("submit", "--json", "-s", "any", "--nodes", "64", "job.sh", code=69).stderr)["error"]
    assert error["type"] == "NoEligibleSiteError"
    assert len(error["details"]) == 2


def _add_plain(plain: PlainFirecrest) -> None:
    register_site(
        "plain",
        url=plain.url,
        token_url=plain.token_url,
        client_id=plain.client_id,
        client_secret=plain.client_secret,
        system=plain.system,
    )
