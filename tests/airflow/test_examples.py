"""The example DAGs, on all kinds of systems."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import run

__all__ = ["anywhere"]

EXAMPLE = Path(__file__).parents[2] / "examples/airflow"
DAGS = EXAMPLE / "dags"


@pytest.fixture
def load(anywhere: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a DAG, as Airflow imports it on a deployment for this system."""
    monkeypatch.setenv("FIRECREST_SYSTEM", anywhere.system)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_talk(anywhere: Place, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_log: Any) -> None:
    """From the structure that appears to the computed lattice constant, which is copper's."""
    monkeypatch.setenv("AIRFLOW_CONN_FS_DEFAULT", "fs://")
    inbox, results = tmp_path / "inbox", tmp_path / "results"
    inbox.mkdir()
    shutil.copy(EXAMPLE / "inputs/Cu.cif", inbox)
    parameters = {
        "inbox": str(inbox),
        "results": str(results),
        "python": sys.executable,  # the cluster of the tests has this one too
    }
    done = run(load("firecrest_example").dag, run_conf=parameters)
    assert set(done.states.values()) == {"success"}, task_log.errors
    [result] = results.glob("*/result.json")
    assert 3.5 < json.loads(result.read_text())["lattice_constant_angstrom"] < 3.7
    assert not list(inbox.iterdir())


def test_parameter_sweep(anywhere: Place, load: Any, tmp_path: Path, task_log: Any) -> None:
    parameters = {"python": anywhere.python, "results": str(tmp_path), "points": 5, "sweeps": 200}
    done = run(load("parameter_sweep").dag, run_conf=parameters)
    assert set(done.states.values()) == {"success"}, task_log.errors
    sweep = done.xcom("sweep")
    assert [element["state"] for element in sweep["elements"]] == ["completed"] * 5
    assert len(list(tmp_path.glob("*/ising-*.json"))) == 5
    assert 1.9 < done.xcom("transition") < 2.7
    with anywhere.open() as system:
        assert not system.glob(sweep["working_dir"])


def test_machine_learning(anywhere: Place, load: Any, task_log: Any) -> None:
    parameters = {"python": anywhere.python, "points": 120, "epochs": 60}
    done = run(load("machine_learning").dag, run_conf=parameters)
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert done.xcom("test") > 0.9
    assert any("epoch 60: loss" in line for _, line in task_log.entries)
