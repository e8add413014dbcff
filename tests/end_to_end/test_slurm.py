"""From a program to real Slurm and back: client, gateway, SSH, sbatch; each user as themselves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import firecrest
import pytest
from firecrest.v2 import Firecrest

from crestline.client import System, connect
from crestline.client.config import Site
from crestline.model import FileMissingError, JobSpec, JobState, PermissionDeniedError
from harness.cluster import Cluster
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until_blocking

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(gateway: SlurmGateway, user: str) -> AsyncIterator[System]:
    client_id, secret = gateway.client_of(user)
    site = Site(url=gateway.url, token_url=gateway.token_url, client_id=client_id, client_secret=secret)
    async with connect(site, system="cluster") as system:
        yield system


async def test_a_job_runs_as_its_user(slurm_gateway: SlurmGateway) -> None:
    async with connected(slurm_gateway, "alice") as system:
        script = '#!/bin/bash\nwhoami; echo "$GREETING"; pwd; exit 3\n'
        spec = JobSpec(script=script, name="it's a|job", nodes=2, time_limit=60, environment={"GREETING": "a,b 'c'"})
        submitted = await system.submit(spec, key="slurm/1")
        assert (await system.submit(spec, key="slurm/1")).job_id == submitted.job_id
        job = await system.wait(submitted)
        assert (job.state, job.exit_code, job.user) == (JobState.FAILED, 3, "alice")
        assert (job.name, job.node_count, job.times.limit) == ("it's a|job", 2, 60)
        told = await system.metadata(job)
        assert await system.read_text(told.stdout or "") == "alice\na,b 'c'\n/home/alice\n"


async def test_an_array_and_a_dependent_job(slurm_gateway: SlurmGateway) -> None:
    async with connected(slurm_gateway, "alice") as system:
        array = await system.submit(JobSpec(script="#!/bin/sh\nexit 0\n", array="1-3"), key="slurm/array")
        after = await system.submit(
            JobSpec(script="#!/bin/sh\ntrue\n", dependency=f"afterok:{array.job_id}"), key="slurm/after"
        )
        assert (await system.wait(after)).state is JobState.COMPLETED
        assert (await system.job(f"{array.job_id}_2")).state is JobState.COMPLETED
        assert (await system.wait(array)).state is JobState.COMPLETED


async def test_cancelling_is_the_users_own(slurm_gateway: SlurmGateway) -> None:
    async with connected(slurm_gateway, "alice") as alice, connected(slurm_gateway, "bob") as bob:
        job = await alice.submit(JobSpec(script="#!/bin/sh\nsleep 600\n"), key="slurm/cancel")
        with pytest.raises(PermissionDeniedError):
            await bob.cancel(job)
        await alice.cancel(job)
        assert (await alice.wait(job)).state is JobState.CANCELLED
        await alice.cancel(job)


async def test_files_are_the_users_own(slurm_gateway: SlurmGateway, tmp_path: Path) -> None:
    content = os.urandom(6 * 1024 * 1024)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "it's.bin").write_bytes(content)
    (tmp_path / "tree" / "small").write_text("small\n")
    async with connected(slurm_gateway, "alice") as alice, connected(slurm_gateway, "bob") as bob:
        await alice.upload(tmp_path / "tree", "/home/alice/tree")
        assert (await alice.upload(tmp_path / "tree", "/home/alice/tree")).unchanged == 2
        await alice.download("/home/alice/tree", tmp_path / "back")
        assert (tmp_path / "back" / "deep" / "it's.bin").read_bytes() == content
        await alice.chmod("/home/alice/tree/small", "600")
        with pytest.raises(PermissionDeniedError):
            await bob.read_bytes("/home/alice/tree/small")
        await alice.remove("/home/alice/tree")
        with pytest.raises(FileMissingError):
            await alice.stat("/home/alice/tree")


async def test_output_is_followed_while_the_job_runs(slurm_gateway: SlurmGateway) -> None:
    async with connected(slurm_gateway, "alice") as system:
        script = "#!/bin/bash\nfor i in 1 2 3; do echo größe $i; sleep 0.5; done\n"
        job = await system.metadata(await system.submit(JobSpec(script=script), key="slurm/follow"))
        assert "".join([text async for text in system.follow(job)]) == "größe 1\ngröße 2\ngröße 3\n"


@pytest.fixture
def pyfirecrest(slurm_gateway: SlurmGateway) -> Firecrest:
    client_id, secret = slurm_gateway.client_of("alice")
    client = Firecrest(slurm_gateway.url, firecrest.ClientCredentialsAuth(client_id, secret, slurm_gateway.token_url))
    client.timeout = 60
    return client


def test_pyfirecrest_sees_the_cluster(pyfirecrest: Firecrest, cluster: Cluster, tmp_path: Path) -> None:
    assert all(each["healthy"] for each in pyfirecrest.systems()[0]["servicesHealth"])
    assert {node["name"] for node in pyfirecrest.nodes("cluster")} == {"n01", "n02", "n03", "n04"}
    assert [each["name"] for each in pyfirecrest.partitions("cluster")] == ["debug", "xfer"]
    info = pyfirecrest.userinfo("cluster")
    assert info["user"]["name"] == "alice"
    assert {account["name"] for account in info["accounts"]} >= {"proj"}
    source = tmp_path / "large"
    source.write_bytes(os.urandom(20 * 1024 * 1024))
    pyfirecrest.upload("cluster", source, "/home/alice", "large")
    assert cluster.check("alice", ["stat", "-c", "%s %U", "/home/alice/large"]).split() == ["20971520", "alice"]
    pyfirecrest.download("cluster", "/home/alice/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    pyfirecrest.mv("cluster", "/home/alice/large", "/home/alice/moved")
    pyfirecrest.rm("cluster", "/home/alice/moved")


def test_a_list_without_accounting_says_so(slurm_gateway: SlurmGateway, cluster: Cluster) -> None:
    with slurm_gateway.http(slurm_gateway.client_of("alice")) as http:
        job = {"name": "held", "workingDirectory": "/home/alice", "script": "#!/bin/sh\n#SBATCH --hold\ntrue\n"}
        job_id = http.post("/compute/cluster/jobs", json={"job": job}).json()["jobId"]
        cluster.stop("slurmdbd")
        try:
            # what accounting told a moment ago counts for a while
            until_blocking(lambda: "Crestline-Partial" in http.get("/compute/cluster/jobs").headers)
            assert job_id in [each["jobId"] for each in http.get("/compute/cluster/jobs").json()["jobs"]]
        finally:
            cluster.start("slurmdbd")
        assert http.delete(f"/compute/cluster/jobs/{job_id}").status_code == 204
