"""What OpenLineage's extractor hears of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk import DAG
from airflow.utils.state import TaskInstanceState

from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run
from harness.gateway import RunningGateway


def test_facets_of_a_job(gateway: RunningGateway, define: Any, tmp_path: Path) -> None:
    define(gateway)
    workdir = gateway.home / "files" / tmp_path.name
    workdir.mkdir()
    seen: dict[str, Any] = {}

    class Watched(FirecRESTSubmitOperator):
        def execute(self, context: Any) -> Any:
            extractors = ExtractorManager()
            ti, dag_run = context["ti"], context["dag_run"]
            seen["start"] = extractors.extract_metadata(dag_run, self, TaskInstanceState.RUNNING, ti)
            left = super().execute(context)
            seen["end"] = extractors.extract_metadata(dag_run, self, TaskInstanceState.SUCCESS, ti)
            return left

    with DAG("lineage", schedule=None) as dag:
        Watched(
            task_id="job",
            system="local",
            command="cp in.cif out.xml",
            working_dir=str(workdir),
            inputs=["in.cif"],
            outputs=["out.xml"],
            nodes=1,
        )
    (workdir / "in.cif").write_text("Si\n")
    done = run(dag)
    assert done.states == {"job": "success"}
    start, end = seen["start"].run_facets["hpc_job"], seen["end"].run_facets["hpc_job"]
    assert (start.state, start.resources) == (None, {"nodes": 1})
    assert (end.state, end.exitCode, end.jobId) == ("completed", 0, done.xcom("job")["job_id"])
    assert end.nodeHours is not None
    assert [dataset.name for dataset in seen["end"].inputs] == [f"{workdir}/in.cif"]
    outputs = [dataset.name for dataset in seen["end"].outputs]
    assert outputs == [f"{workdir}/out.xml", done.xcom("job")["stdout"]]
    assert seen["end"].outputs[0].namespace == f"firecrest://{gateway.url.removeprefix('http://')}/local"
