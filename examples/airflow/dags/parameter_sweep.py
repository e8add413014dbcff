"""A parameter sweep: one array job computes all points, mapped tasks look at each, and one draws the conclusion.

The array is one task and one job, however many points there are: the magnetisation of the Ising model at as many
temperatures. From its results the temperature is found at which the magnet loses its order (2.269 in theory).
"""

import json
import os
from itertools import pairwise
from pathlib import Path

from airflow.sdk import DAG, task

from crestline_airflow.operators import (
    FirecRESTDownloadOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
    scratch_directory,
)

here = Path(__file__).resolve().parent
system = os.environ.get("FIRECREST_SYSTEM", "local")

with DAG(
    dag_id="parameter_sweep",
    tags=["firecrest-executor"],
    schedule=None,
    params={
        "points": 9,
        "lowest": 1.6,
        "highest": 3.2,
        "sweeps": 400,
        "results": str(here.parent / "results"),
        "python": "python3",  # any on the system
    },
) as dag:
    with scratch_directory("parameter_sweep/{{ run_id }}", system=system) as scratch:
        upload = FirecRESTUploadOperator(
            task_id="upload", system=system, source_path=str(here / "ising.py"), target_path=f"{scratch}/"
        )
        sweep = FirecRESTSubmitOperator(
            task_id="sweep",
            system=system,
            working_dir=scratch,
            array="0-{{ params.points - 1 }}",
            time_limit="00:10:00",
            command=(
                '"{{ params.python }}" ising.py "$SLURM_ARRAY_TASK_ID" {{ params.points }} '
                "{{ params.lowest }} {{ params.highest }} {{ params.sweeps }}"
            ),
        )
        download = FirecRESTDownloadOperator(
            task_id="download",
            system=system,
            target_task_id="sweep",
            remote_files="ising-*.json",
            local_path="{{ params.results }}/{{ run_id }}/",
        )
        upload >> sweep >> download

    @task
    def point(file: str) -> list[float]:
        """Temperature and magnetisation of one element."""
        result = json.loads(Path(file).read_text())
        return [result["temperature"], result["magnetisation"]]

    @task
    def transition(points: list[list[float]]) -> float:
        """The temperature at which half of the order is lost, between the two points around it."""
        points = sorted(points)
        for (cold, order), (hot, disorder) in pairwise(points):
            if order >= 0.5 > disorder:
                return round(cold + (hot - cold) * (order - 0.5) / (order - disorder), 2)
        raise ValueError(f"no transition between {points[0][0]} and {points[-1][0]}")

    transition(point.expand(file=download.output))
