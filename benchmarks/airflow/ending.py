"""From a job's end to its task's end on a Crestline gateway, beside a trigger that does nothing but see a file appear.

    .venv/bin/python benchmarks/airflow/ending.py [--tasks 10] [--quick] [--json FILE]

Each task is a run of its own, at a moment that Airflow's loops do not know. The file trigger is what Airflow itself
takes: its triggerer looks once a second, and a task that a worker ends takes the scheduler's round and the start of a
process too.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests")]

from report import Row, show, write  # noqa: E402

from harness.airflow_stack import AirflowStack, running  # noqa: E402
from harness.gateway import in_thread  # noqa: E402
from harness.sites import gateway_site  # noqa: E402

WITH_WORKER = "file, then a worker"
MODES = {
    "deferred, ended by a worker": WITH_WORKER,
    "deferred, ended by the triggerer": "file",
    "no worker": "file",
}

DAGS = """
from airflow.sdk import DAG, BaseOperator
from file_trigger import FileTrigger
from crestline_airflow.operators import FirecRESTSubmitOperator

SCRIPT = '''#!/bin/bash
until [ -e {place}/{{{{ dag.dag_id }}}}.go ]; do sleep 0.02; done
rm {place}/{{{{ dag.dag_id }}}}.go
date +%s.%N > {place}/{{{{ dag.dag_id }}}}.end
'''


class Waits(BaseOperator):
    def __init__(self, *, end_from_trigger, **kwargs):
        super().__init__(**kwargs)
        self.end_from_trigger = end_from_trigger

    def execute(self, context):
        path = "{place}/" + context["dag"].dag_id + ".go"
        self.defer(trigger=FileTrigger(path, self.end_from_trigger), method_name="done")

    def done(self, context, event):
        return event


def ours(**options):
    return lambda: FirecRESTSubmitOperator(
        task_id="job", script=SCRIPT, working_dir="{place}", **options
    )


TASKS = {{
    "deferred, ended by a worker": ours(deferrable=True, end_from_trigger=False),
    "deferred, ended by the triggerer": ours(deferrable=True),
    "no worker": ours(start_from_trigger=True),
    "file, then a worker": lambda: Waits(task_id="job", end_from_trigger=False),
    "file": lambda: Waits(task_id="job", end_from_trigger=True),
}}
for number, task in enumerate(TASKS.values()):
    with DAG(f"way_{{number}}", schedule=None) as dag:
        task()
    globals()[f"way_{{number}}"] = dag
"""
NAMES = [*MODES, WITH_WORKER, "file"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10, help="for each way")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one task for each: to see that it works")
    asked = parser.parse_args()
    if asked.quick:
        asked.tasks = 1
    os.environ["PYTHONPATH"] = str(HERE)  # for Airflow's processes: the trigger of the baseline
    with tempfile.TemporaryDirectory(prefix="airflow-ending-") as name:
        place = Path(name, "files")
        place.mkdir()
        local = {
            "scheduler": {"type": "local", "nodes": [{"names": ["n1"], "cpus": 16, "memory": 16000}]},
            "file_systems": [{"path": str(place), "default_work_dir": True}],
        }
        with in_thread(Path(name, "gateway"), systems={"local": local}) as gateway:
            site = gateway_site(gateway)
            connection = {
                "conn_type": "firecrest",
                "host": site.url,
                "login": site.client_id,
                "password": site.client_secret,
                "extra": {"token_url": site.token_url, "system": site.system},
            }
            dags = DAGS.format(place=place)
            with running(Path(name, "airflow"), dags, {"firecrest_default": connection}) as stack:
                found = {
                    way: [delay(stack, place, number) for _ in range(asked.tasks)] for number, way in enumerate(NAMES)
                }
    for way, delays in found.items():
        print(f"{way:35} first {delays[0]:.2f} s, all {' '.join(f'{each:.2f}' for each in sorted(delays))}")
    rows = [
        Row(f"{mode}: from job's to task's end", median, "s", limit, met, statistics.median(found[other]), other)
        for mode, other in MODES.items()
        for median in [statistics.median(found[mode])]
        for limit, met in [("none", None) if other == WITH_WORKER else ("under 1 s", median < 1)]
    ]
    print(show(rows))
    if asked.json:
        write(rows, asked.json)


def delay(stack: AirflowStack, place: Path, number: int) -> float:
    """Seconds from the end of what a task waits for to the task's end."""
    dag_id = f"way_{number}"
    task = stack.trigger(dag_id)
    task.until("deferred")
    time.sleep(4 + random.random())
    (place / f"{dag_id}.go").touch()
    ended = float((place / f"{dag_id}.go").stat().st_mtime)
    now = task.until("success")
    if (place / f"{dag_id}.end").exists():
        ended = float((place / f"{dag_id}.end").read_text())
    return datetime.fromisoformat(now["end_date"]).timestamp() - ended


if __name__ == "__main__":
    main()
