"""Kill, clear, time out, and lose workers and triggerers, on a whole Airflow at work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from crestline.client import BlockingSystem, Site, connect_blocking
from crestline.model import Job, JobState
from crestline.testing.firecrest import fixture as plain_firecrest
from harness.airflow_stack import AirflowStack, TaskOf, running
from harness.gateway import in_thread
from harness.sites import gateway_site, plain_site
from harness.slurm_gateway import SlurmGateway

MODES = ("worker", "deferred", "zero")
WITHOUT_WORKER = ("deferred", "zero")

DAGS = '''
from datetime import timedelta
from airflow.sdk import DAG
from crestline_airflow.operators import FirecRESTSubmitOperator

SCRIPT = """#!/bin/bash
#SBATCH --output=out-%j.txt
echo {{ dag.dag_id }} begins
until [ -e {{ dag.dag_id }}-go ]; do sleep 0.1; done
echo {{ dag.dag_id }} ends
exit $(cat {{ dag.dag_id }}-go)
"""
MODES = {
    "worker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "zero": {"start_from_trigger": True},
}

def dag(dag_id, conn_id, mode, **options):
    with DAG(dag_id, schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", firecrest_conn_id=conn_id, script=SCRIPT, working_dir="live", **MODES[mode], **options
        )
    globals()[dag_id] = dag

for conn_id in ("ours", "plain", "slurm"):
    for mode in MODES:
        dag(f"kill_{conn_id}_{mode}", conn_id, mode)
        dag(f"done_{conn_id}_{mode}", conn_id, mode)
for mode in MODES:
    dag(f"clear_{mode}", "ours", mode)
    dag(f"deleted_{mode}", "ours", mode)
    dag(f"beside_{mode}", "ours", mode)
    dag(f"lost_{mode}", "ours", mode, retries=1, retry_delay=timedelta(seconds=1))
    dag(f"frozen_{mode}", "ours", mode)
    dag(f"late_{mode}", "ours", mode, execution_timeout=timedelta(seconds=12))
    dag(f"fails_{mode}", "ours", mode, retries=1, retry_delay=timedelta(seconds=1))
'''


class Backend:
    """Jobs as their system knows them, and the file that each waits for."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.connection = {
            "conn_type": "firecrest",
            "host": site.url,
            "login": site.client_id,
            "password": site.client_secret,
            "extra": {"token_url": site.token_url, "system": site.system},
        }

    def __enter__(self) -> Backend:
        self.system: BlockingSystem = connect_blocking(self.site).open()
        self.workdir = f"{self.system.default_workdir()}/live"
        self.system.mkdir(self.workdir, parents=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self.system.close()

    def jobs(self, dag_id: str) -> list[Job]:
        """The jobs of a DAG, oldest first."""
        jobs = [job for job in self.system.jobs() if job.workdir == self.workdir]
        mine = [job for job in jobs if f"echo {dag_id} begins" in (self.system.metadata(job).script or "")]
        return sorted(mine, key=lambda job: int(job.job_id))

    def go(self, dag_id: str, exit_code: int = 0) -> None:
        """Let the job of a DAG end."""
        self.system.write_text(f"{self.workdir}/{dag_id}-go", str(exit_code))


@pytest.fixture(scope="module")
def backends(slurm_gateway: SlurmGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    alice, secret = slurm_gateway.client_of("alice")
    place = tmp_path_factory.mktemp("systems")
    (place / "files").mkdir()
    local = {
        "scheduler": {"type": "local", "nodes": [{"names": ["n1"], "cpus": 16, "memory": 16000}]},
        "file_systems": [{"path": str(place / "files"), "default_work_dir": True}],
    }
    with (
        in_thread(place / "gateway", systems={"local": local}) as gateway,
        plain_firecrest.running(place / "plain", cpus_per_node=16) as plain,
    ):
        sites = {
            "ours": gateway_site(gateway),
            "plain": plain_site(plain),
            "slurm": gateway_site(slurm_gateway, client_id=alice, client_secret=secret),
        }
        with ExitStack() as opened:
            yield {name: opened.enter_context(Backend(site)) for name, site in sites.items()}


@pytest.fixture(scope="module")
def stack(backends: dict[str, Backend], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    connections = {name: backend.connection for name, backend in backends.items()}
    with running(tmp_path_factory.mktemp("live") / "airflow", DAGS, connections) as stack:
        yield stack


Backends = dict[str, Backend]


def begun(stack: AirflowStack, *dag_ids: str) -> list[TaskOf]:
    """Runs of DAGs whose jobs run, and whose log shows so."""
    tasks = [stack.trigger(dag_id) for dag_id in dag_ids]
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        task.until("running" if dag_id.endswith("worker") else "deferred")
        task.until_logged(f"{dag_id} begins")
        if dag_id.endswith("deferred"):
            task.until_off_workers()
    return tasks


def states(backend: Backend, dag_id: str, jobs: int = 1) -> list[str]:
    """How the jobs of a DAG ended, oldest first."""
    found = backend.jobs(dag_id)
    assert len(found) == jobs, found
    return [str(backend.system.wait(job, timeout=120).state) for job in found]


def output_of(task: TaskOf, dag_id: str) -> list[int]:
    """How often the job's lines are in the task log."""
    lines = task.log_lines()
    return [lines.count(f"{dag_id} {word}") for word in ("begins", "ends")]


def test_a_job_that_completes(stack: AirflowStack, backends: Backends) -> None:
    """The output is in the task log while the task has no worker, and each line once at the end."""
    backend = backends["ours"]
    dag_ids = [f"done_ours_{mode}" for mode in MODES]
    for task, dag_id in zip(begun(stack, *dag_ids), dag_ids, strict=True):
        [job] = backend.jobs(dag_id)
        assert job.job_id in task.link("HPC job")  # while it runs
        backend.go(dag_id)
        ended = task.until("success")
        [job] = backend.jobs(dag_id)
        left = task.xcom()
        assert left["job_id"] == job.job_id == task.xcom("job_id")
        assert left["state"] == "completed"
        assert left["node_hours"] is not None
        assert left["stdout"] == f"{backend.workdir}/out-{job.job_id}.txt"
        assert output_of(task, dag_id) == [1, 1]
        assert job.job_id in task.link("HPC job")
        assert (ended["pid"] is None) == dag_id.endswith("zero")
        assert task.log_lines().count("::group::Pre Execute") == (not dag_id.endswith("zero"))  # legs on a worker
    asked = [line for line in stack.output_of("triggerer") if "XCom not found" in line]
    assert not [line for line in asked if "done_ours_zero" not in line], asked
    assert len(asked) <= 1, asked


@pytest.mark.parametrize("where", ["plain", "slurm"])
def test_a_job_that_completes_elsewhere(stack: AirflowStack, backends: Backends, where: str) -> None:
    dag_ids = [f"done_{where}_{mode}" for mode in WITHOUT_WORKER]
    for task, dag_id in zip(begun(stack, *dag_ids), dag_ids, strict=True):
        backends[where].go(dag_id)
        task.until("success")
        assert states(backends[where], dag_id) == ["completed"]
        assert output_of(task, dag_id) == [1, 1]


@pytest.mark.parametrize("where", ["ours", "plain", "slurm"])
def test_marking_failed_cancels_the_job(stack: AirflowStack, backends: Backends, where: str) -> None:
    dag_ids = [f"kill_{where}_{mode}" for mode in (MODES if where == "ours" else WITHOUT_WORKER)]
    tasks = begun(stack, *dag_ids)
    for task in tasks:
        task.mark("failed")
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        assert states(backends[where], dag_id) == ["cancelled"]
        assert task.look()["state"] == "failed"


def test_clearing_ends_with_one_live_job(stack: AirflowStack, backends: Backends) -> None:
    backend = backends["ours"]
    dag_ids = [f"clear_{mode}" for mode in MODES]
    tasks = begun(stack, *dag_ids)
    for task in tasks:
        task.clear()
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        stack.until(lambda dag_id=dag_id: len(backend.jobs(dag_id)) == 2)
        if dag_id.endswith("deferred"):
            task.until_off_workers(times=2)
        backend.go(dag_id)
        task.until("success", try_number=2)
        assert states(backend, dag_id, jobs=2) == ["cancelled", "completed"]
        assert task.xcom("job_id") == backend.jobs(dag_id)[-1].job_id


@pytest.mark.parametrize("mode", WITHOUT_WORKER)
def test_deleting_a_task_instance_leaves_one_live_job(stack: AirflowStack, backends: Backends, mode: str) -> None:
    """The scheduler makes the task instance anew.

    If the deleted one was on a worker, Airflow itself takes the end of that worker for the end of the new one. Airflow
    also fails a task whose trigger fires before the scheduler has seen the end of its worker. The deleted one's trigger
    would do that if the new one got its number, which SQLite gives again where it was the highest: another task's is.
    """
    backend = backends["ours"]
    dag_id, beside = f"deleted_{mode}", f"beside_{mode}"
    [task] = begun(stack, dag_id)
    [other] = begun(stack, beside)
    [job] = backend.jobs(dag_id)
    task.delete()
    task.until_made_anew()
    assert backend.system.wait(job, timeout=120).state is JobState.CANCELLED
    stack.until(lambda: len(backend.jobs(dag_id)) == 2)
    if mode == "deferred":
        task.until_off_workers(times=2)
    for each, name in ((task, dag_id), (other, beside)):
        backend.go(name)
        each.until("success")
    assert states(backend, dag_id, jobs=2) == ["cancelled", "completed"]


def test_running_out_of_time_cancels_the_job(stack: AirflowStack, backends: Backends) -> None:
    dag_ids = [f"late_{mode}" for mode in MODES]
    tasks = [stack.trigger(dag_id) for dag_id in dag_ids]
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        task.until("failed")
        assert states(backends["ours"], dag_id) == ["cancelled"]


def test_a_job_that_fails_is_done_anew_by_a_retry(stack: AirflowStack, backends: Backends) -> None:
    backend = backends["ours"]
    dag_ids = [f"fails_{mode}" for mode in MODES]
    tasks = begun(stack, *dag_ids)
    for dag_id in dag_ids:
        backend.go(dag_id, exit_code=3)
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        task.until("failed", try_number=2)
        assert states(backend, dag_id, jobs=2) == ["failed", "failed"]
        assert "exit code 3" in task.log(1)
        assert "exit code 3" in task.log(2)


def test_a_lost_worker(stack: AirflowStack, backends: Backends) -> None:
    """The retry goes on with the job."""
    [task] = begun(stack, "lost_worker")
    os.kill(task.look()["pid"], signal.SIGKILL)
    task.until("running", try_number=2)
    backends["ours"].go("lost_worker")
    task.until("success", try_number=2)
    assert states(backends["ours"], "lost_worker") == ["completed"]


def test_a_lost_triggerer(stack: AirflowStack, backends: Backends) -> None:
    """Another one goes on with the job, and with its output where the lost one stood."""
    dag_ids = [f"lost_{mode}" for mode in WITHOUT_WORKER]
    tasks = begun(stack, *dag_ids)
    stack.kill(stack.triggerers[-1])
    stack.start_triggerer()
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        stack.until(lambda task=task: output_starts(task) == 2)
        backends["ours"].go(dag_id)
        task.until("success", try_number=1)
        assert states(backends["ours"], dag_id) == ["completed"]
        assert output_of(task, dag_id) == [1, 1]


def output_starts(task: TaskOf) -> int:
    """How many triggers have said that the job runs."""
    return sum(line.endswith("is running") for line in task.log_lines())


def test_a_triggerer_that_was_frozen(stack: AirflowStack, backends: Backends) -> None:
    """Airflow tells it that the user has killed its tasks, which is not so."""
    dag_ids = [f"frozen_{mode}" for mode in WITHOUT_WORKER]
    tasks = begun(stack, *dag_ids)
    frozen = stack.triggerers[-1]
    stack.freeze(frozen)
    stack.start_triggerer()
    for task in tasks:
        stack.until(lambda task=task: output_starts(task) == 2)
    stack.thaw(frozen)
    for task, dag_id in zip(tasks, dag_ids, strict=True):
        task.until_logged("cancelled by user action")
        backends["ours"].go(dag_id)
        task.until("success", try_number=1)
        assert states(backends["ours"], dag_id) == ["completed"]


def test_the_test_button_of_the_form(stack: AirflowStack, backends: Backends) -> None:
    connection = backends["plain"].connection
    good = stack.test_connection("tried", connection)
    assert good["status"], good
    assert connection["extra"]["system"] in good["message"]
    bad = stack.test_connection("tried", connection | {"password": "wrong"})
    assert not bad["status"]
    assert "wrong" not in bad["message"].split()
