"""The operators on real Slurm behind our gateway, as an ordinary user of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run, the_talk
from harness.cluster import Cluster
from harness.slurm_gateway import SlurmGateway


@pytest.fixture
def as_alice(slurm_gateway: SlurmGateway, define: Any) -> Callable[..., None]:
    """Define the connection; `as_alice(host=...)` with another field."""
    client_id, secret = slurm_gateway.client_of("alice")
    return partial(define, slurm_gateway, login=client_id, password=secret)


@pytest.mark.parametrize("api", ["firecrest", "iri"])
def test_the_talk(
    api: str,
    slurm_gateway: SlurmGateway,
    as_alice: Callable[..., None],
    cluster: Cluster,
    tmp_path: Path,
    task_log: Any,
) -> None:
    extra = {"auth_url": slurm_gateway.token_url, "system": slurm_gateway.system}
    as_alice(**({"host": f"{slurm_gateway.url}/iri", "extra": extra | {"api": api}} if api == "iri" else {}))
    done = run(the_talk(slurm_gateway.system, tmp_path))
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert (tmp_path / "sum.txt").read_text() == "16\n"
    job_id = done.xcom("submit")["job_id"]
    recorded = cluster.check("root", ["sacct", "-nXPo", "User,State", "-j", job_id])
    assert recorded.strip() == "alice|COMPLETED"
    assert task_log.lines("submit").count("adding") == 1


def test_a_failed_job(slurm_gateway: SlurmGateway, as_alice: Callable[..., None], task_log: Any) -> None:
    as_alice()
    with DAG("slurm_fails", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system=slurm_gateway.system, script="#!/bin/bash\necho wrong units >&2\nexit 5\n"
        )
    assert run(dag).states == {"job": "failed"}
    assert "exit code 5" in task_log.errors[-1]
    assert any("wrong units" in line for line in task_log.lines("submit"))
