"""slurmrestd beside the commands: versions, tokens, outages. What it lists is tested with what squeue lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.slurm import SlurmOptions, SlurmScheduler, restd
from crestline.gateway.schedulers.slurm.options import RestOptions
from crestline.gateway.schedulers.slurm.restd import Slurmrestd
from crestline.gateway.schedulers.slurm.restd_jobs import JobsDocument, entries_of, is_cut_short
from crestline.model import ConfigError, GatewayUnavailableError, PermissionDeniedError
from crestline.wire.compute import JobDescription, JobInfo
from harness.cluster import Cluster, on_every_slurm
from harness.container_commands import ContainerCommands
from harness.slurmrestd import rest_options
from harness.waiting import until_answered

HELD = JobDescription(working_directory="/scratch", script="#!/bin/sh\n#SBATCH --hold\ntrue\n")


@on_every_slurm
@pytest.mark.anyio
async def test_versions_tokens_and_outages(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = rest_options(cluster, tmp_path)
    commands = ContainerCommands(cluster)
    slurm = SlurmScheduler("test", commands, SlurmOptions(observer="observer", timeout=10, max_stale=0.0, rest=options))
    newest = {"22.05": "v0.0.38", "24.11": "v0.0.42"}[cluster.slurm_version]
    assert await slurm.ping() == f"slurmrestd answers with {newest}."
    job_id = await slurm.submit("alice", HELD)
    (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert (seen.status.state, seen.user) == ("PENDING", "alice")
    assert "squeue" not in commands.ran

    rest = Slurmrestd(options, 10)
    with pytest.raises(PermissionDeniedError):  # by Slurm itself, whatever the gateway looks up before
        await rest.cancel("bob", job_id)
    await rest.cancel("alice", "99999999")
    monkeypatch.setattr(restd, "NEWEST", 41)  # a slurmrestd that tells nothing of what was refused
    silent = Slurmrestd(options, 10)
    with pytest.raises(PermissionDeniedError):
        await silent.cancel("bob", job_id)
    await silent.cancel("alice", "99999999")
    await silent.close()
    monkeypatch.undo()
    assert await rest.queue("alice", "alice", ["99999999"]) == ([], [])

    wrong = tmp_path / "wrong.key"
    wrong.write_bytes(b"x" * 1024)
    other = Slurmrestd(RestOptions(url=options.url, jwt_key_file=wrong), 10)
    with pytest.raises(GatewayUnavailableError, match="jwt_key_file"):
        await other.queue("alice", None)
    with pytest.raises(GatewayUnavailableError):
        await other.ping("alice")

    cluster.stop("slurmrestd")
    try:
        await anyio.sleep(1)  # so old may an answer be
        with pytest.raises(GatewayUnavailableError, match="slurmrestd does not answer") as caught:
            await slurm.jobs("alice", JobQuery(ids=(job_id,)))
        assert caught.value.retry_after
    finally:
        cluster.start("slurmrestd")
    await until_answered(lambda: slurm.jobs("alice", JobQuery(ids=(job_id,))), GatewayUnavailableError)
    await slurm.cancel("alice", job_id)
    (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
    assert seen.status.state == "CANCELLED"

    cluster.stop("slurmctld")
    try:
        with pytest.raises(GatewayUnavailableError) as caught:
            await rest.queue("alice", None)
        assert caught.value.retry_after
    finally:
        cluster.start("slurmctld")
    await until_answered(lambda: rest.queue("alice", None), GatewayUnavailableError)
    await slurm.stop()
    await rest.close()
    await other.close()


@on_every_slurm
@pytest.mark.anyio
async def test_a_sparse_array_that_slurmrestd_cuts_short(cluster: Cluster, tmp_path: Path) -> None:
    """It ends the list of waiting tasks with `...`; squeue then says which they are."""
    indices = ",".join(str(number * number) for number in range(21))
    script = f"#!/bin/sh\n#SBATCH --hold\n#SBATCH --array={indices}\ntrue\n"
    commands = ContainerCommands(cluster)
    slurm = SlurmScheduler("test", commands, SlurmOptions(timeout=30, rest=rest_options(cluster, tmp_path)))
    job_id = await slurm.submit("alice", JobDescription(working_directory="/scratch", script=script))
    (task,) = await slurm.jobs("alice", JobQuery(ids=(f"{job_id}_400",)))
    assert (task.job_id, task.status.state) == (f"{job_id}_400", "PENDING")
    assert commands.ran["squeue"] >= 1
    await slurm.cancel("alice", job_id)
    await slurm.stop()


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jwt_key"):
        Slurmrestd(RestOptions(url="http://127.0.0.1:1", jwt_key_file=tmp_path / "none"), 1)


def parse(**fields: Any) -> JobInfo:
    document = json.dumps({"jobs": [{"job_id": 7, **fields}], "errors": [], "meta": {}})
    (entry,) = entries_of(msgspec.json.decode(document, type=JobsDocument).jobs)
    return entry.job


def number(value: int | None, *, infinite: bool = False) -> dict[str, Any]:
    return {"set": value is not None, "infinite": infinite, "number": value or 0}


def test_numbers_and_states_of_later_versions() -> None:
    """As the documentation of v0.0.40 to v0.0.43 has them; Debian's slurmrestd is older."""
    job = parse(
        job_state=["RUNNING", "COMPLETING"],
        array_job_id=number(5),
        array_task_id=number(0),
        start_time=number(1000),
        end_time=number(4600),
        submit_time=number(900),
        time_limit=number(60),
        exit_code={"status": ["SUCCESS"], "return_code": number(3), "signal": {"id": number(9), "name": "KILL"}},
        priority=number(None),
        node_count=number(2),
        group_name="users",
    )
    assert (job.job_id, job.status.state, job.group) == ("5_0", "COMPLETING", "users")
    assert (job.status.exit_code, job.status.interrupt_signal) == (3, 9)
    assert (job.time.start, job.time.submit, job.time.limit, job.priority) == (1000, 900, 3600, None)
    assert parse(job_state=["PENDING"], time_limit=number(0, infinite=True)).time.limit is None
    assert parse(job_state="FAILED", exit_code=number(256 * 7)).status.exit_code == 7


@pytest.mark.parametrize(
    ("fields", "job_id"),
    [
        ({"array_job_id": 0, "array_task_id": None, "array_task_string": "", "het_job_id": 0}, "7"),
        ({"array_job_id": 5, "array_task_id": None, "array_task_string": "1-5%2"}, "5_[1-5%2]"),
        ({"array_job_id": 5, "array_task_id": 0, "array_task_string": ""}, "5_0"),
        ({"het_job_id": 6, "het_job_offset": 1}, "6+1"),
    ],
)
def test_ids(fields: dict[str, Any], job_id: str) -> None:
    assert parse(job_state="PENDING", **fields).job_id == job_id


def test_what_is_cut_short() -> None:
    text = '{"jobs": [{"job_id": 7, "job_state": "PENDING", "array_job_id": 7, "array_task_string": "1,3,..."}]}'
    (job,) = msgspec.json.decode(text, type=JobsDocument).jobs
    assert is_cut_short(job)


@given(st.text())
def test_no_name_breaks_it(name: str) -> None:
    assert parse(job_state="RUNNING", name=name, start_time=1).name == name
