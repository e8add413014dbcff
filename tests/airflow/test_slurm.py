"""The operators on real Slurm behind our gateway, as an ordinary user of the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run, the_talk
from harness.cluster import Cluster
from harness.slurm_gateway import SlurmGateway


@pytest.fixture(autouse=True)
def _as_alice(slurm_gateway: SlurmGateway, define: Any) -> None:
    client_id, secret = slurm_gateway.client_of("alice")
    define(slurm_gateway, login=client_id, password=secret)


def test_the_talk(slurm_gateway: SlurmGateway, cluster: Cluster, tmp_path: Path, task_log: Any) -> None:
    done = run(the_talk(slurm_gateway.system, tmp_path))
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert (tmp_path / "sum.txt").read_text() == "16\n"
    job_id = done.xcom("submit")["job_id"]
    recorded = cluster.check("root", ["sacct", "-nXPo", "User,State", "-j", job_id])
    assert recorded.strip() == "alice|COMPLETED"
    assert task_log.lines("submit").count("adding") == 1


def test_a_failed_job(slurm_gateway: SlurmGateway, task_log: Any) -> None:
    with DAG("slurm_fails", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system=slurm_gateway.system, script="#!/bin/bash\necho wrong units >&2\nexit 5\n"
        )
    assert run(dag).states == {"job": "failed"}
    assert "exit code 5" in task_log.errors[-1]
    assert any("wrong units" in line for line in task_log.lines("submit"))
