"""Sensors for files and jobs, on a worker and in the triggerer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobFailedError,
    JobSpec,
    JobState,
    PermissionDeniedError,
)
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.sensors import FirecRESTFileSensor, FirecRESTJobSensor
from crestline_airflow.sensors.triggers import FirecRESTFileSensorTrigger, FirecRESTJobSensorTrigger
from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import run

__all__ = ["anywhere"]

EITHER_WAY = pytest.mark.parametrize("deferrable", [False, True])
LOCAL = pytest.mark.parametrize("anywhere", ["local"], indirect=True)

SCRIPT = "#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\necho exits with $(cat go)\nexit $(cat go)\n"


@EITHER_WAY
def test_a_file_that_appears(anywhere: Place, deferrable: bool, task_log: Any) -> None:
    with DAG(f"file_{anywhere.kind}_{deferrable}", schedule=None) as dag:
        FirecRESTFileSensor(
            task_id="wait",
            system=anywhere.system,
            path=anywhere.workdir + "/{{ dag.dag_id }}-*.out",
            poke_interval=0.2,
            deferrable=deferrable,
        )
    file = f"{anywhere.workdir}/{dag.dag_id}-1.out"

    def appear() -> None:
        with anywhere.open() as system:
            system.write_text(file, "done")

    task_log.when("not there yet", appear)
    done = run(dag)
    assert done.states == {"wait": "success"}, task_log.errors
    assert done.xcom("wait") == [file]


@EITHER_WAY
def test_sensor_waits_for_a_job_that_no_task_submitted(anywhere: Place, deferrable: bool, task_log: Any) -> None:
    with anywhere.open() as system:
        job = system.submit(JobSpec(script=SCRIPT, workdir=anywhere.workdir))
        with DAG(f"job_{anywhere.kind}_{deferrable}", schedule=None) as dag:
            FirecRESTJobSensor(
                task_id="wait",
                system=anywhere.system,
                job_id=job.job_id,
                poke_interval=0.2,
                deferrable=deferrable,
            )
        task_log.when(f"Job {job.job_id} on", lambda: system.write_text(f"{anywhere.workdir}/go", "0"))
        done = run(dag)
    assert done.states == {"wait": "success"}, task_log.errors
    left = done.xcom("wait")
    assert (left["job_id"], left["state"], left["exit_code"]) == (job.job_id, "completed", 0)
    assert left["working_dir"] == anywhere.workdir


@LOCAL
@EITHER_WAY
def test_a_job_that_fails(anywhere: Place, deferrable: bool, task_log: Any) -> None:
    with anywhere.open() as system:
        job = system.submit(JobSpec(script=SCRIPT, workdir=anywhere.workdir))
        with DAG(f"fails_{deferrable}", schedule=None) as dag:
            FirecRESTJobSensor(task_id="wait", job_id=job.job_id, poke_interval=0.2, deferrable=deferrable)
        task_log.when(f"Job {job.job_id} on", lambda: system.write_text(f"{anywhere.workdir}/go", "3"))
        assert run(dag).states == {"wait": "failed"}
    assert task_log.errors[-1] == f"Job {job.job_id} failed with exit code 3."
    lines = task_log.lines("sensors.job")
    assert task_log.errors[-1] in lines
    assert lines[-1] == "    exits with 3"


@LOCAL
def test_a_sensor_that_runs_out_of_time(anywhere: Place) -> None:
    with DAG("sensor_late", schedule=None) as dag:
        FirecRESTFileSensor(
            task_id="wait",
            path=f"{anywhere.workdir}/never",
            poke_interval=0.1,
            timeout=0.5,
            soft_fail=True,
        )
    assert run(dag).states == {"wait": "skipped"}


@pytest.mark.parametrize("kind", ["file", "job"])
def test_a_sensor_on_a_worker_outlasts_an_outage(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise GatewayUnavailableError("it does not answer")

    monkeypatch.setattr(FirecRESTHook, "get_conn", away)

    def sensor(**options: Any) -> Any:
        return (
            FirecRESTFileSensor(task_id="wait", path="out/*.h5", **options)
            if kind == "file"
            else FirecRESTJobSensor(task_id="wait", job_id="1", **options)
        )

    assert not sensor().poke({}).is_done
    operator = sensor(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute.__wrapped__(operator, {})


def ended(state: str) -> dict[str, Any]:
    """The event of a job sensor's trigger."""
    return {"job_id": "1", "system": "lab", "state": state, "exit_code": 0, "working_dir": "/w", "has_pages": False}


def test_a_sensor_needs_no_gateway_after_its_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise GatewayUnavailableError("it does not answer")

    monkeypatch.setattr(FirecRESTHook, "get_conn", away)
    sensor = FirecRESTJobSensor(task_id="wait", job_id="1", deferrable=True)
    left = sensor.resume_execution("execute_complete", {"event": ended("completed")}, {})
    assert left == {"job_id": "1", "system": "lab", "state": "completed", "exit_code": 0, "working_dir": "/w"}


@pytest.mark.parametrize("where", ["worker", "first look", "after a deferral"])
@pytest.mark.parametrize(
    ("option", "error", "skips"),
    [
        (None, JobFailedError, False),
        ("soft_fail", JobFailedError, True),
        ("never_fail", JobFailedError, True),
        ("soft_fail", PermissionDeniedError, False),
        ("never_fail", PermissionDeniedError, True),
    ],
)
def test_sensor_fails_or_skips_alike_wherever_it_waits(
    option: str | None, error: type[CrestlineError], skips: bool, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise error("it failed", Job(job_id="1", state=JobState.FAILED)) if error is JobFailedError else error("no")

    monkeypatch.setattr(FirecRESTHook, "get_conn", away)
    sensor = FirecRESTJobSensor(
        task_id="wait", job_id="1", deferrable=where != "worker", **({option: True} if option else {})
    )
    begin: Any = lambda: sensor.execute.__wrapped__(sensor, {})  # noqa: E731
    resume: Any = lambda: sensor.resume_execution("execute_complete", {"event": ended("failed")}, {})  # noqa: E731
    with pytest.raises(AirflowSkipException if skips else error) as failed:
        (resume if where == "after a deferral" else begin)()
    assert "poll_once" not in [frame.name for frame in failed.traceback]
    assert failed.value.__suppress_context__


def test_a_sensor_that_outlasts_every_error_waits_on_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([PermissionDeniedError("not yet"), PokeReturnValue(is_done=True, xcom_value="there")])

    def look(_: Any) -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(FirecRESTFileSensor, "poll_once", look)
    sensor = FirecRESTFileSensor(task_id="wait", path="x", deferrable=True, silent_fail=True, poke_interval=0)
    assert sensor.execute.__wrapped__(sensor, {}) == "there"


@LOCAL
def test_a_job_id_that_came_out_empty(anywhere: Place, task_log: Any) -> None:
    with DAG("empty", schedule=None, params={"job": ""}) as dag:
        FirecRESTJobSensor(task_id="wait", job_id="{{ params.job }}")
    assert run(dag).states == {"wait": "failed"}
    assert "job_id is empty" in task_log.errors[-1]


@pytest.mark.parametrize("anywhere", ["plain"], indirect=True)
@pytest.mark.anyio
async def test_waiting_is_shared(anywhere: Place) -> None:
    """Twenty sensors in a triggerer ask less often than twenty times."""
    with anywhere.open() as system:
        job = system.submit(JobSpec(script=SCRIPT, workdir=anywhere.workdir))
    anywhere.plain.requests.clear()
    triggers = [FirecRESTJobSensorTrigger("firecrest_default", anywhere.system, job.job_id) for _ in range(20)]
    waiting = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
    Path(anywhere.workdir, "go").write_text("0")
    fired = await asyncio.gather(*waiting)
    assert {event.payload["job_id"] for event in fired} == {job.job_id}
    assert len([seen for seen in anywhere.plain.requests if "/jobs" in seen.path]) < 20


def test_triggers_survive_serialization() -> None:
    for trigger in (
        FirecRESTFileSensorTrigger("alps", "daint", "/scratch/u/out", 5.0),
        FirecRESTJobSensorTrigger("alps", None, "42"),
    ):
        classpath, kwargs = trigger.serialize()
        assert classpath == f"crestline_airflow.sensors.triggers.{type(trigger).__name__}"
        assert type(trigger)(**kwargs).serialize() == (classpath, kwargs)
