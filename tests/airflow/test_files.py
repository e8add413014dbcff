"""Upload and download operators on a gateway of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.model import InvalidRequestError
from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTSubmitOperator, FirecRESTUploadOperator
from crestline_airflow.operators.download import local_targets
from harness.airflow_dags import run
from harness.gateway import RunningGateway


@pytest.fixture
def remote(gateway: RunningGateway, define: Any, tmp_path: Path) -> Path:
    """A directory on the system, one for each test."""
    define(gateway)
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def test_upload_of_files_and_directories(remote: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/a file, ∆.txt").write_text("content")
    with DAG("uploads", schedule=None) as dag:
        for task_id, target in (("named", "made/other.txt"), ("into", "made/"), ("there", ".")):
            FirecRESTUploadOperator(
                task_id=task_id,
                system="local",
                source_path=str(tree / "deep/a file, ∆.txt"),
                target_path=f"{remote}/{target}",
            )
        FirecRESTUploadOperator(task_id="tree", system="local", source_path=str(tree), target_path=f"{remote}/copy")
        dag.task_dict["into"] >> dag.task_dict["named"]
    done = run(dag)
    assert set(done.states.values()) == {"success"}
    assert done.xcom("named") == f"{remote}/made/other.txt"
    for file in ("made/other.txt", "made/a file, ∆.txt", "a file, ∆.txt", "copy/deep/a file, ∆.txt"):
        assert (remote / file).read_text() == "content"


def test_what_is_not_there_fails(remote: Path, tmp_path: Path, task_log: Any) -> None:
    with DAG("absent", schedule=None) as dag:
        FirecRESTUploadOperator(
            task_id="up", system="local", source_path=str(tmp_path / "nosuch.cif"), target_path=f"{remote}/"
        )
        FirecRESTDownloadOperator(
            task_id="down", system="local", remote_files=f"{remote}/nosuch.out", local_path=str(tmp_path / "out")
        )
    assert run(dag).states == {"up": "failed", "down": "failed"}
    assert "nosuch.cif" in "".join(task_log.errors)
    assert "nosuch.out" in "".join(task_log.errors)
    assert not (tmp_path / "out").exists()


def test_the_output_of_a_job(remote: Path, tmp_path: Path) -> None:
    local = tmp_path / "new/results"
    script = "#!/bin/bash\nmkdir a b\necho 1 > a/out; echo 2 > b/out; echo log\n"
    with DAG("output", schedule=None) as dag:
        job = FirecRESTSubmitOperator(task_id="job", system="local", script=script, working_dir=str(remote))
        job >> FirecRESTDownloadOperator(
            task_id="several",
            system="local",
            target_task_id="job",
            remote_files=["slurm-{_jobid_}.out", "slurm-{job_id}.out", "a/out", f"{remote}/b/out"],
            local_path=str(local),
        )
        job >> FirecRESTDownloadOperator(
            task_id="one", system="local", target_task_id="job", remote_files="a/out", local_path=str(tmp_path / "a1")
        )
        job >> FirecRESTDownloadOperator(
            task_id="log", system="local", target_task_id="job", local_path=str(tmp_path / "job.log")
        )
    done = run(dag)
    assert set(done.states.values()) == {"success"}
    log = local / f"slurm-{done.xcom('job')['job_id']}.out"
    assert [path.read_text() for path in (log, local / "a/out", local / "b/out")] == ["log\n", "1\n", "2\n"]
    assert done.xcom("several") == [str(log), str(local / "a/out"), str(local / "b/out")]
    assert (tmp_path / "a1").read_text() == "1\n"
    assert (tmp_path / "job.log").read_text() == "log\n"


def test_a_task_that_left_no_job(remote: Path, tmp_path: Path, task_log: Any) -> None:
    with DAG("nojob", schedule=None) as dag:
        up = FirecRESTUploadOperator(task_id="up", system="local", source_path=__file__, target_path=f"{remote}/")
        up >> FirecRESTDownloadOperator(
            task_id="down", system="local", target_task_id="up", local_path=str(tmp_path / "out")
        )
    assert run(dag).states == {"up": "success", "down": "failed"}
    assert "'up' has left no job" in task_log.errors[-1]


def test_where_files_go(tmp_path: Path) -> None:
    assert local_targets(["/w/a"], f"{tmp_path}/x") == {"/w/a": tmp_path / "x"}
    assert local_targets(["/w/a"], f"{tmp_path}/x/") == {"/w/a": tmp_path / "x/a"}
    assert local_targets(["/w/a"], str(tmp_path)) == {"/w/a": tmp_path / "a"}
    assert local_targets(["/w/a", "/w/./a", "/v/b"], f"{tmp_path}/x") == {
        "/w/a": tmp_path / "x/a",
        "/v/b": tmp_path / "x/b",
    }
    assert local_targets(["/w/1/out", "/w/2/out", "/w/2/log"], f"{tmp_path}/x") == {
        "/w/1/out": tmp_path / "x/1/out",
        "/w/2/out": tmp_path / "x/2/out",
        "/w/2/log": tmp_path / "x/2/log",
    }


def test_files_that_fit_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequestError, match="is a file"):
        local_targets(["/a", "/b"], f"{tmp_path}/file")
    with pytest.raises(InvalidRequestError, match="Nothing"):
        local_targets([], f"{tmp_path}/file")
