"""Tasks on a facility API other than FirecREST: the example of "Write a facility backend"."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airflow.sdk import DAG

from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTSubmitOperator, FirecRESTUploadOperator
from harness import workstation
from harness.airflow_dags import run


def test_tasks_on_another_facility_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "facility"
    place.mkdir()
    for path in workstation.install(tmp_path / "installed"):
        monkeypatch.syspath_prepend(str(path))
    sites = Path(os.environ["CRESTLINE_SITES"])
    sites.write_text(f'[sites.desk]\napi = "workstation"\nurl = "workstation:{place}"\ntoken = "unused"\n')
    sites.chmod(0o600)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/numbers").write_text("40\n2\n")
    with DAG("elsewhere", schedule=None) as dag:
        upload = FirecRESTUploadOperator(task_id="upload", source_path=str(tmp_path / "in"), target_path=f"{place}/run")
        job = FirecRESTSubmitOperator(
            task_id="job",
            script="#!/bin/bash\nawk '{ n += $1 } END { print n }' numbers > sum\n",
            working_dir=f"{place}/run",
        )
        download = FirecRESTDownloadOperator(
            task_id="download", remote_files=f"{place}/run/sum", local_path=str(tmp_path / "sum")
        )
        upload >> job >> download
    done = run(dag)
    assert done.states == {"upload": "success", "job": "success", "download": "success"}
    assert done.xcom("job")["exit_code"] == 0
    assert (tmp_path / "sum").read_text() == "42\n"
