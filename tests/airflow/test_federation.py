"""The example's DAG over two sites."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from harness.airflow_dags import run
from harness.gateway import RunningGateway
from harness.slurm_gateway import SlurmGateway

DAG = Path(__file__).parents[2] / "examples" / "federation" / "two_sites.py"


def test_a_dag_over_two_sites(
    gateway: RunningGateway,
    slurm_gateway: SlurmGateway,
    define: Any,
    task_log: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    define(gateway, "laptop")
    client_id, secret = slurm_gateway.client_of("alice")
    define(slurm_gateway, "centre", login=client_id, password=secret)
    monkeypatch.setenv("SMALL_SYSTEM", gateway.system)
    monkeypatch.setenv("LARGE_SYSTEM", slurm_gateway.system)
    spec = importlib.util.spec_from_file_location("two_sites", DAG)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    done = run(module.dag, run_conf={"results": str(tmp_path), "samples": 500})
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert 0.4 < done.xcom("mean") < 0.6
    assert len(list(tmp_path.glob("*/mean-*.txt"))) == 2
