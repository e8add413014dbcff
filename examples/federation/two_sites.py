"""A DAG over two sites: samples are drawn on a small one, and a large one makes the statistics of them.

Each site is an Airflow connection of its own, `laptop` and `centre`; data goes from one to the other by way of the
worker. Nothing else of a task says where it runs.
"""

import os
from pathlib import Path

from airflow.sdk import DAG, task

from crestline_airflow.operators import (
    FirecRESTDownloadOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
    scratch_directory,
)

here = Path(__file__).resolve().parent
small = {"firecrest_conn_id": "laptop", "system": os.environ.get("SMALL_SYSTEM", "local")}
large = {"firecrest_conn_id": "centre", "system": os.environ.get("LARGE_SYSTEM", "daint")}
between = "{{ params.results }}/{{ run_id }}"

with DAG(
    dag_id="two_sites",
    tags=["firecrest-executor"],
    schedule=None,
    params={"results": str(here / "results"), "samples": 1000},
) as dag:
    with scratch_directory("two_sites/{{ run_id }}", task_id="small-scratch", **small) as drawn:
        draw = FirecRESTSubmitOperator(
            task_id="draw",
            **small,
            working_dir=drawn,
            time_limit="00:05:00",
            command="awk 'BEGIN { srand(7); for (i = 0; i < {{ params.samples }}; i++) print rand() }' > samples.txt",
        )
        fetch = FirecRESTDownloadOperator(
            task_id="fetch", **small, target_task_id="draw", remote_files="samples.txt", local_path=f"{between}/"
        )
        draw >> fetch

    with scratch_directory("two_sites/{{ run_id }}", task_id="large-scratch", **large) as reduced:
        carry = FirecRESTUploadOperator(
            task_id="carry", **large, source_path=f"{between}/samples.txt", target_path=f"{reduced}/"
        )
        reduce = FirecRESTSubmitOperator(
            task_id="reduce",
            **large,
            working_dir=reduced,
            array="0-1",
            time_limit="00:05:00",
            command=(
                "awk -v half=$SLURM_ARRAY_TASK_ID 'NR % 2 == half { sum += $1; n++ } "
                "END { print sum / n }' samples.txt > mean-$SLURM_ARRAY_TASK_ID.txt"
            ),
        )
        collect = FirecRESTDownloadOperator(
            task_id="collect", **large, target_task_id="reduce", remote_files="mean-*.txt", local_path=f"{between}/"
        )
        carry >> reduce >> collect
    fetch >> carry

    @task
    def mean(files: list[str]) -> float:
        """Of both halves."""
        means = [float(Path(file).read_text()) for file in files]
        return sum(means) / len(means)

    mean(collect.output)
