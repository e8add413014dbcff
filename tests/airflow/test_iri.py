"""Tasks on an IRI facility: the connection's `api` is all that differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airflow.sdk import DAG

from crestline.client import register_site
from crestline.testing.iri import TOKEN, Deviations, running
from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTSubmitOperator, FirecRESTUploadOperator
from harness.airflow_dags import run


@pytest.mark.parametrize("version", [1, 2])
def test_a_dag_uploads_computes_and_downloads(tmp_path: Path, version: int) -> None:
    place = tmp_path / "facility"
    place.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/numbers").write_text("40\n2\n")
    with running(place, Deviations(versions=(version,))) as facility:
        register_site(
            "doe",
            file=Path(os.environ["CRESTLINE_SITES"]),
            url=facility.url,
            api="iri",
            token=TOKEN,
            options={"workdir": str(place)},
        )
        with DAG("doe", schedule=None) as dag:
            upload = FirecRESTUploadOperator(
                task_id="upload", source_path=str(tmp_path / "in"), target_path=f"{place}/run"
            )
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
        assert len(facility.jobs) == 1
