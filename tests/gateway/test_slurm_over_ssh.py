"""Slurm over a real SSH connection: everything that must survive the way there."""

from __future__ import annotations

import json
import time

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.slurm import SlurmOptions, SlurmScheduler
from crestline.model import InvalidRequestError, normalize_state
from crestline.wire.compute import JobDescription
from harness.cluster import Cluster
from harness.ssh import ssh_host
from harness.waiting import until

pytestmark = pytest.mark.anyio

NAME = "a|b\nline ' \" ` $(id) ;& \\ \u540d\u524d \x01\x1f%j"
VALUES = {
    "COMMAS": "1,2,3",
    "LINES": "a\nb\n",
    "QUOTES": "'\"`$HOME \\",
    "UNICODE": "\u00e9\u540d",
    "PATH": "/mine:/usr/bin:/bin",
}


async def test_a_job_over_ssh(cluster: Cluster) -> None:
    async with ssh_host(cluster) as host:
        slurm = SlurmScheduler("test", host, SlurmOptions(observer="observer", timeout=30, submit_timeout=30))
        await slurm.start()
        assert slurm.version.startswith("22.05")
        script = "#!/bin/bash\nexec python3 -c 'import json,os; print(json.dumps(dict(os.environ)))'\n"
        job = JobDescription(
            working_directory="/home/alice", name=NAME, env=VALUES, script=script, standard_output="out %j.json"
        )
        key = f"over ssh {time.time()}"
        job_id = await slurm.submit("alice", job, key)
        assert await slurm.find("alice", key) == job_id

        async def ended() -> bool:
            (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
            return normalize_state(seen.status.state).is_terminal

        await until(ended, 120)
        (seen,) = await slurm.jobs("alice", JobQuery(ids=(job_id,)))
        assert (seen.name, seen.status.state) == (NAME, "COMPLETED")
        (about,) = await slurm.metadata("alice", job_id)
        assert about.script == script
        assert about.standard_output == f"/home/alice/out {job_id}.json"
        environment = json.loads(cluster.check("alice", ["cat", about.standard_output]))
        assert {name: environment.get(name) for name in VALUES} == VALUES
        with pytest.raises(InvalidRequestError):
            await slurm.submit("alice", JobDescription(working_directory="/", script="#!/bin/sh\n", partition="nope"))
        assert {node.name for node in await slurm.nodes("alice")} == {"n01", "n02", "n03", "n04"}
        assert [account.name for account in await slurm.accounts("bob")] == ["proj"]
        assert "maintenance" not in {each.name for each in await slurm.partitions("alice")}
        assert "maintenance" in {each.name for each in await slurm.partitions("alice", show_hidden=True)}
        assert "UP" in await slurm.ping()
        await slurm.stop()


async def test_reservations(cluster: Cluster) -> None:
    words = "Users=alice Nodes=n04 StartTime=now+1days Duration=60".split()
    cluster.check("root", ["scontrol", "create", "reservation", "ReservationName=odd = name", *words])
    try:
        async with ssh_host(cluster) as host:
            slurm = SlurmScheduler("test", host, SlurmOptions(timeout=30))
            (seen,) = [each for each in await slurm.reservations("alice") if each.name == "odd = name"]
            assert (seen.node_list, seen.state, seen.end_time - seen.start_time) == ("n04", "INACTIVE", 3600)
            assert abs(seen.start_time - time.time() - 86400) < 7200
            await slurm.stop()
    finally:
        cluster.check("root", ["scontrol", "delete", "reservation=odd = name"])
