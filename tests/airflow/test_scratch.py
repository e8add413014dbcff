"""A directory that lives as long as a part of a DAG run."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from crestline_airflow.operators import (
    FirecRESTMakeScratchOperator,
    FirecRESTRemoveScratchOperator,
    FirecRESTSubmitOperator,
    scratch_directory,
)
from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import again, run

__all__ = ["anywhere"]

LOCAL = pytest.mark.parametrize("anywhere", ["local"], indirect=True)


@pytest.mark.parametrize("fails", [False, True])
def test_it_is_removed_whatever_happens_in_it(anywhere: Place, fails: bool, task_log: Any) -> None:
    path = anywhere.workdir + "/runs/{{ dag.dag_id }}"
    with (
        DAG(f"scratch_{anywhere.kind}_{fails}", schedule=None) as dag,
        scratch_directory(path, system=anywhere.system) as scratch,
    ):
        FirecRESTSubmitOperator(
            task_id="job",
            system=anywhere.system,
            script=f"#!/bin/bash\npwd; echo kept > ../../{dag.dag_id}\nexit {int(fails)}\n",
            working_dir=scratch,
        )
    done = run(dag)
    states = {"scratch": "success", "job": "failed" if fails else "success", "scratch_removal": "success"}
    assert done.states == states, task_log.errors
    assert done.xcom("scratch") == f"{anywhere.workdir}/runs/{dag.dag_id}"
    with anywhere.open() as system:
        assert system.read_text(f"{anywhere.workdir}/{dag.dag_id}") == "kept\n"
        assert system.ls(f"{anywhere.workdir}/runs", hidden=True) == []


@LOCAL
def test_what_others_made_is_left_alone(anywhere: Place, task_log: Any) -> None:
    with anywhere.open() as system:
        system.write_text(f"{anywhere.workdir}/thesis.tex", "years of work")
    with DAG("others", schedule=None) as dag:
        with scratch_directory(anywhere.workdir, task_id="taken"):
            FirecRESTSubmitOperator(task_id="job", script="#!/bin/bash\ntrue\n")
        FirecRESTRemoveScratchOperator(task_id="wrong", path=anywhere.workdir, created_by="taken")
    done = run(dag)
    assert done.states["taken"] == "failed"
    assert done.states["job"] == "upstream_failed"
    assert done.states["wrong"] == "failed"
    errors = "\n".join(task_log.errors)
    assert "is there already, and this task has not made it" in errors
    assert "was not made by 'taken' in this run; it stays" in errors
    with anywhere.open() as system:
        assert system.read_text(f"{anywhere.workdir}/thesis.tex") == "years of work"


@LOCAL
def test_a_second_try_takes_what_the_first_made(anywhere: Place, task_log: Any) -> None:
    with DAG("second", schedule=None) as dag:
        FirecRESTMakeScratchOperator(task_id="make", path=f"{anywhere.workdir}/mine")
    done = run(dag)
    assert done.states == {"make": "success"}
    with anywhere.open() as system:
        system.write_text(f"{anywhere.workdir}/mine/begun", "")
    assert again(dag).states == {"make": "success"}, task_log.errors


def test_the_place_of_default_args() -> None:
    with DAG("of_dag", schedule=None, default_args={"system": "daint", "firecrest_conn_id": "alps"}) as dag:
        with scratch_directory("a"):
            pass
        with scratch_directory("b", task_id="own", system="lab"):
            pass
    places = {name: (task.system, task.firecrest_conn_id) for name, task in dag.task_dict.items()}
    assert places == {
        "scratch": ("daint", "alps"),
        "scratch_removal": ("daint", "alps"),
        "own": ("lab", "alps"),
        "own_removal": ("lab", "alps"),
    }
