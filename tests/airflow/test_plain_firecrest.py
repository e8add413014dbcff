"""The operators on a plain FirecREST, which has none of our additions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.testing.firecrest import PlainFirecrest, running
from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run, the_talk


@pytest.fixture(params=["2.5.6", "2.6.0"])
def plain(request: pytest.FixtureRequest, define: Any) -> Iterator[PlainFirecrest]:
    with running(version=request.param) as plain:
        define(plain)
        yield plain


def test_the_talk(plain: PlainFirecrest, tmp_path: Path, task_log: Any) -> None:
    done = run(the_talk(plain.system, tmp_path))
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert (tmp_path / "sum.txt").read_text() == "16\n"
    assert done.xcom("submit")["working_dir"] == str(plain.home / "adding")
    assert task_log.lines("submit").count("adding") == 1
    assert len(plain.jobs()) == 1


def test_a_failed_job(plain: PlainFirecrest, task_log: Any) -> None:
    with DAG("plain_fails", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system=plain.system,
            script="#!/bin/bash\n#SBATCH --error=err.txt\necho wrong units >&2\nexit 5\n",
        )
    assert run(dag).states == {"job": "failed"}
    assert "exit code 5" in task_log.errors[-1]
    assert any("wrong units" in line for line in task_log.lines("submit"))


def test_a_submission_whose_answer_is_lost_is_one_job(plain: PlainFirecrest, tmp_path: Path, task_log: Any) -> None:
    plain.faults.fail(500, path="/jobs", method="POST", when="after")
    done = run(the_talk(plain.system, tmp_path))
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert len(plain.jobs()) == 1


def test_a_job_that_is_invisible_and_nameless_at_first(plain: PlainFirecrest, tmp_path: Path, task_log: Any) -> None:
    plain.faults.fresh_job_404 = 2.0
    plain.faults.allocation_window = 3.0
    done = run(the_talk(plain.system, tmp_path))
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert (tmp_path / "sum.txt").read_text() == "16\n"
