"""What an HPC job costs an Airflow: our three modes beside the talk's operator and the waiting of two other packages.

    .venv/bin/python benchmarks/airflow/styles.py [--tasks 4] [--seconds 60] [--quick] [--json FILE]

A whole Airflow runs each style in turn, `--tasks` jobs at a time, each sleeping `--seconds`. Measured are the seconds
that workers were busy per job, the requests per minute for 200 tasks, the time from a job's end to its task's end, and
the memory of a task that waits.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests")]

from report import Row, show, write  # noqa: E402

from crestline.testing.firecrest import fixture as plain_firecrest  # noqa: E402
from harness.airflow_stack import AirflowStack, TaskOf, running  # noqa: E402

STYLES = {
    "ours, on a worker": "a worker waits, with a list for each worker",
    "ours, deferred": "the triggerer waits; one list for all",
    "ours, no worker": "the triggerer submits and waits",
    "the talk's operator": "sleep(10), one GET for each task and round",
    "UNICORE's style": "a blocking poll of one's own job every 5 s",
    "SSH's style": "the worker holds the command until it ends; no gateway",
}
OURS = ("ours, on a worker", "ours, deferred", "ours, no worker")

DAGS = '''
import os, subprocess, time
import httpx
from airflow.sdk import DAG, BaseOperator, BaseHook
from crestline_airflow.operators import FirecRESTSubmitOperator

SECONDS = {seconds}
SCRIPT = """#!/bin/bash
sleep %d
date +%%s.%%N > {{{{ task.task_id }}}}.end
""" % SECONDS
TASKS = {tasks}


class Blocking(BaseOperator):
    """Submit, sleep, ask for the job, until it has ended: as in the talk, with a token and one client for each task."""

    template_fields = ("script",)

    def __init__(self, *, script, first, interval, **kwargs):
        super().__init__(**kwargs)
        self.script, self.first, self.interval = script, first, interval

    def execute(self, context):
        connection = BaseHook.get_connection("firecrest_default")
        extra = connection.extra_dejson
        with httpx.Client(base_url=connection.host, timeout=60, trust_env=False) as http:
            form = {{"grant_type": "client_credentials"}}
            token = http.post(extra["token_url"], data=form, auth=(connection.login, connection.password)).json()
            http.headers["Authorization"] = "Bearer " + token["access_token"]
            jobs = f"/compute/{{extra['system']}}/jobs"
            body = {{"job": {{"script": self.script, "workingDirectory": {home!r}}}}}
            job_id = http.post(jobs, json=body).json()["jobId"]
            time.sleep(self.first)
            while http.get(f"{{jobs}}/{{job_id}}").json()["jobs"][0]["status"]["state"] in ("PENDING", "RUNNING"):
                time.sleep(self.interval)


class Held(BaseOperator):
    """The worker runs a command that lasts as long as the job, as through SSH."""

    template_fields = ("script",)

    def __init__(self, *, script, **kwargs):
        super().__init__(**kwargs)
        self.script = script

    def execute(self, context):
        subprocess.run(["/bin/bash", "-s"], input=self.script.encode(), cwd={home!r}, check=True)


def ours(**options):
    return lambda task_id: FirecRESTSubmitOperator(task_id=task_id, script=SCRIPT, working_dir={home!r}, **options)


STYLES = {{
    "ours, on a worker": ours(deferrable=False),
    "ours, deferred": ours(deferrable=True),
    "ours, no worker": ours(start_from_trigger=True),
    "the talk's operator": lambda task_id: Blocking(task_id=task_id, script=SCRIPT, first=10, interval=10),
    "UNICORE's style": lambda task_id: Blocking(task_id=task_id, script=SCRIPT, first=0, interval=5),
    "SSH's style": lambda task_id: Held(task_id=task_id, script=SCRIPT),
}}

for number, make in enumerate(STYLES.values()):
    with DAG(f"style_{{number}}", schedule=None) as dag:
        for task in range(TASKS):
            make(f"style_{{number}}_{{task}}")
    globals()[f"style_{{number}}"] = dag
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=4, help="jobs at a time, at most Airflow's parallelism of 4")
    parser.add_argument("--seconds", type=int, default=60, help="that a job takes")
    parser.add_argument("--quick", action="store_true", help="jobs of 15 s: to see that it works")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds = 15
    with (
        tempfile.TemporaryDirectory(prefix="airflow-styles-") as place,
        plain_firecrest.running(Path(place, "site"), cpus_per_node=256) as plain,
    ):
        connection = {
            "conn_type": "firecrest",
            "host": plain.url,
            "login": plain.client_id,
            "password": plain.client_secret,
            "extra": {"token_url": plain.token_url, "system": plain.system},
        }
        dags = DAGS.format(seconds=asked.seconds, tasks=asked.tasks, home=str(plain.home))
        with running(Path(place, "airflow"), dags, {"firecrest_default": connection}) as stack:
            found = {
                name: measure(stack, plain, number, asked.tasks, asked.seconds) for number, name in enumerate(STYLES)
            }
    units = {"worker-s": "s", "requests": "1/min", "s": "s", "MB": "MB"}
    rows = [
        Row(f"{name}: {column}", value, units[column.partition(" ")[0].partition("/")[0]], "none", None, raw, other)
        for name in OURS
        for column, value in found[name].items()
        for other in STYLES
        if other not in OURS
        for raw in [found[other][column]]
    ]
    print(show(rows))
    if asked.json:
        write(rows, asked.json)


def measure(stack: AirflowStack, plain: Any, number: int, tasks: int, seconds: int) -> dict[str, float]:
    """Run one style."""
    dag_id = f"style_{number}"
    legs = len(worker_legs(stack))
    run = stack.trigger(dag_id, task_id=f"{dag_id}_0")
    waiting = [run.of(f"{dag_id}_{task}") for task in range(tasks)]
    for task in waiting:
        task.until("running", "deferred", "success")
    time.sleep(seconds / 3)  # all wait now
    plain.requests.clear()
    memory = [megabytes(task) for task in waiting]
    begun = time.monotonic()
    time.sleep(seconds / 3)
    per_minute = 60 * len(plain.requests) / (time.monotonic() - begun)
    delays = []
    for task in waiting:
        ended = task.until("success")["end_date"]
        job_ended = float((plain.home / f"{task.task_id}.end").read_text())
        delays.append(datetime.fromisoformat(ended).timestamp() - job_ended)
    stack.until(run.is_over)
    time.sleep(5)  # until the executor has written down the last of them
    shares = "triggerer" in list(STYLES.values())[number]
    return {
        "worker-s per job": sum(worker_legs(stack)[legs:]) / tasks,
        "requests/min, 200 tasks": per_minute if shares else per_minute / tasks * 200,
        "s from job's to task's end": statistics.median(delays),
        "MB per waiting task": statistics.median(memory),
    }


def worker_legs(stack: AirflowStack) -> list[float]:
    """Seconds of all workloads that the executor has run."""
    text = (stack.home / "scheduler-0.out").read_text()
    return [float(found) for found in re.findall(r"Workload finished .*?duration=([0-9.]+)", text)]


def megabytes(task: TaskOf) -> float:
    """What the processes of a task have for themselves; nothing if it has none (see waiting.py for triggers)."""
    now = task.look()
    if now["state"] != "running" or now["pid"] is None:
        return 0.0
    process = psutil.Process(now["pid"])
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_full_info().uss for each in family) / 1e6


if __name__ == "__main__":
    main()
