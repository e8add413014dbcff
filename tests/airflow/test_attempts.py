"""One attempt is one job: lost workers, cleared tasks, jobs that ended while no task watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.client import Site, connect_blocking
from crestline_airflow.attempts import Attempts
from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import again, last_run, run
from harness.gateway import RunningGateway

SCRIPT = "#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\ncat go\nexit $(cat go)\n"

WORKER = """
import sys
from harness.airflow_dags import run
from test_attempts import waiting_dag
run(waiting_dag(sys.argv[1]))
"""


class WorkerLostError(BaseException):
    """Ends a task as abruptly as this process survives it."""


def waiting_dag(workdir: str, **options: Any) -> DAG:
    """One job that ends with the number in the file `go`."""
    with DAG(Path(workdir).name.replace("[", "-").replace("]", ""), schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", system="local", script=SCRIPT, working_dir=workdir, **options)
    return dag


def states(gateway: RunningGateway, workdir: Path) -> list[str]:
    """States of the jobs that were submitted there."""
    with gateway.http() as http:
        jobs = http.get("/compute/local/jobs").json()["jobs"] or []
    return sorted(job["status"]["state"].split()[0] for job in jobs if job["workingDirectory"] == str(workdir))


def lose_a_worker(workdir: Path, moment: str = "_finish", place: type = FirecRESTSubmitOperator) -> None:
    """Run the DAG until it calls a method while the job waits for `go`; nothing more of it happens then."""

    def die(*_: Any) -> None:
        raise WorkerLostError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, moment, die)
        assert run(waiting_dag(str(workdir))).states == {"job": "failed"}


def kill_a_worker(workdir: Path) -> None:
    """Run the DAG in another process, and kill that while the job waits for `go`."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}:{here.parent}"}
    command = [sys.executable, "-u", "-c", WORKER, str(workdir)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if "is running" in line:
                worker.kill()
    assert worker.returncode == -signal.SIGKILL


@pytest.mark.parametrize("how", ["killed while the job runs", "lost before it runs", "lost before the id is stored"])
def test_a_try_after_a_lost_worker_goes_on_with_the_job(
    gateway: RunningGateway, workdir: Path, task_log: Any, how: str
) -> None:
    if how == "killed while the job runs":
        kill_a_worker(workdir)
    elif how == "lost before it runs":
        lose_a_worker(workdir)
    else:
        lose_a_worker(workdir, "submitted", Attempts)
    task_log.when("is running", lambda: (workdir / "go").write_text("0"))
    assert again(waiting_dag(str(workdir))).states == {"job": "success"}
    assert states(gateway, workdir) == ["COMPLETED"]
    assert task_log.lines("submit").count("0") == 1


def test_a_job_that_completed_after_its_worker_was_lost_counts(gateway: RunningGateway, workdir: Path) -> None:
    lose_a_worker(workdir)
    (workdir / "go").write_text("0")
    assert again(waiting_dag(str(workdir))).states == {"job": "success"}
    assert states(gateway, workdir) == ["COMPLETED"]


def test_a_job_that_failed_after_its_worker_was_lost_is_not_adopted(gateway: RunningGateway, workdir: Path) -> None:
    lose_a_worker(workdir)
    (workdir / "go").write_text("7")
    wait_until_ended(gateway, workdir)
    (workdir / "go").write_text("0")
    assert again(waiting_dag(str(workdir))).states == {"job": "success"}
    assert states(gateway, workdir) == ["COMPLETED", "FAILED"]


def test_a_cleared_task_is_done_anew(gateway: RunningGateway, workdir: Path) -> None:
    (workdir / "go").write_text("0")
    dag = waiting_dag(str(workdir))
    done = run(dag)
    first = done.xcom("job")["job_id"]
    done.clear()
    second = again(dag)
    assert second.states == {"job": "success"}
    assert second.xcom("job")["job_id"] != first
    assert states(gateway, workdir) == ["COMPLETED", "COMPLETED"]


def test_clearing_after_a_lost_worker_leaves_one_live_job(
    gateway: RunningGateway, workdir: Path, task_log: Any
) -> None:
    lose_a_worker(workdir)
    dag = waiting_dag(str(workdir))
    lost = last_run(dag)
    lost.fail()
    lost.clear()
    task_log.when("is running", lambda: (workdir / "go").write_text("0"))
    assert again(dag).states == {"job": "success"}
    assert states(gateway, workdir) == ["CANCELLED", "COMPLETED"]


def wait_until_ended(gateway: RunningGateway, workdir: Path) -> None:
    client_id, secret = gateway.client
    site = Site(url=gateway.url, token_url=gateway.token_url, client_id=client_id, client_secret=secret)
    with connect_blocking(site, system="local") as system:
        [job] = [job for job in system.jobs() if job.workdir == str(workdir)]
        system.wait(job)
