"""Running DAGs of a test on real Airflow, in this process and without a scheduler (`dag.test()`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def configure(home: Path) -> None:
    """Give this process an Airflow of its own; before anything of Airflow is imported."""
    (home / "dags").mkdir(parents=True)
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
    )


def make_database() -> None:
    """Airflow's database."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()


def register(dag: Any) -> None:
    """Let Airflow's database know a DAG that is in no file."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


def the_talk(system: str, tmp_path: Path) -> Any:
    """The middle of the talk's DAG: upload, submit, download; `sum.txt` in `tmp_path` will hold 16."""
    from airflow.sdk import DAG

    from crestline_airflow.operators import (
        FirecRESTDownloadOperator,
        FirecRESTSubmitOperator,
        FirecRESTUploadOperator,
    )

    (tmp_path / "in.txt").write_text("3 5 8\n")
    script = "#!/bin/bash\necho adding\nread a b c < in.txt\necho $((a + b + c)) > sum-$SLURM_JOB_ID.txt\n"
    with DAG("talk", schedule=None) as dag:
        upload = FirecRESTUploadOperator(
            task_id="upload", system=system, source_path=str(tmp_path / "in.txt"), target_path="adding/"
        )
        submit = FirecRESTSubmitOperator(task_id="submit", system=system, script=script, working_dir="adding")
        download = FirecRESTDownloadOperator(
            task_id="download",
            system=system,
            target_task_id="submit",
            remote_files="sum-{_jobid_}.txt",
            local_path=str(tmp_path / "sum.txt"),
        )
        upload >> submit >> download
    return dag


def run(dag: Any, **options: Any) -> Run:
    """Run a DAG to its end; a failure does not raise."""
    register(dag)
    return Run(dag.test(**options))


def again(dag: Any) -> Run:
    """Run the task of the latest run of a DAG once more, as the scheduler does when its worker was lost."""
    from airflow.sdk.definitions.dag import _run_task

    latest = last_run(dag)
    [ti] = latest.dag_run.get_task_instances()
    ti.try_number += 1
    ti.set_state("scheduled")
    _run_task(ti=ti, task=dag.task_dict[ti.task_id], run_triggerer=True)
    return last_run(dag)


def last_run(dag: Any) -> Run:
    """The latest run of a DAG, as the database knows it."""
    from airflow.models.dagrun import DagRun

    register(dag)
    [run] = DagRun.find(dag_id=dag.dag_id)
    return Run(run)


class Run:
    """What became of a DAG run."""

    def __init__(self, dag_run: Any) -> None:
        self.dag_run = dag_run

    @property
    def states(self) -> dict[str, str]:
        """State by task id."""
        return {ti.task_id: str(ti.state) for ti in self.dag_run.get_task_instances()}

    def xcom(self, task_id: str) -> Any:
        """What a task returned."""
        return self.dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)

    def clear(self) -> None:
        """What a user does who clears all tasks."""
        from airflow.models.taskinstance import clear_task_instances
        from airflow.utils.session import create_session

        with create_session() as session:
            clear_task_instances(self.dag_run.get_task_instances(session=session), session)

    def fail(self) -> None:
        """What the scheduler does with tasks whose worker was lost and that have no retries."""
        for ti in self.dag_run.get_task_instances():
            ti.set_state("failed")
