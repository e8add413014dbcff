"""Waiting in the triggerer, which `dag.test()` plays itself."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import TaskDeferralTimeout, TaskDeferred

from crestline.client import BlockingSystem, Site, connect_blocking
from crestline.model import JobSpec, JobState
from crestline_airflow import triggers
from crestline_airflow.operators import FirecRESTSubmitOperator, FirecRESTUploadOperator
from crestline_airflow.operators.transfer import FirecRESTTransferTrigger
from crestline_airflow.triggers import FirecRESTJobTrigger
from harness.airflow_dags import Run, last_run, run
from harness.gateway import RunningGateway


@pytest.fixture
def system(gateway: RunningGateway) -> Iterator[BlockingSystem]:
    client_id, secret = gateway.client
    site = Site(url=gateway.url, token_url=gateway.token_url, client_id=client_id, client_secret=secret)
    with connect_blocking(site, system="local") as system:
        yield system


def one_job(name: str, workdir: Path, script: str, **options: Any) -> DAG:
    with DAG(name, schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system="local", script=script, working_dir=str(workdir), deferrable=True, **options
        )
    return dag


@pytest.mark.parametrize("end_from_trigger", [None, True])
def test_a_deferred_job(workdir: Path, task_log: Any, end_from_trigger: bool | None) -> None:
    """`dag.test()` resumes every task that is deferred."""
    script = "#!/bin/bash\necho first\nsleep 1\necho last\n"
    done = run(one_job(f"deferred_{end_from_trigger}", workdir, script, end_from_trigger=end_from_trigger))
    assert done.states == {"job": "success"}
    assert done.xcom("job")["state"] == "completed"
    assert [task_log.lines("crestline_airflow").count(line) for line in ("first", "last")] == [1, 1]


def test_a_deferred_job_that_fails(workdir: Path, task_log: Any) -> None:
    dag = one_job("deferred_fails", workdir, "#!/bin/bash\n#SBATCH --error=err.txt\necho too hot >&2\nexit 6\n")
    assert run(dag).states == {"job": "failed"}
    assert "exit code 6" in task_log.errors[-1]
    assert task_log.lines("submit")[-1] == "    too hot"


def test_a_retry_after_a_deferral_is_a_new_job(workdir: Path, system: BlockingSystem) -> None:
    script = "#!/bin/bash\n[ -e again ] || { touch again; exit 1; }\n"
    assert run(one_job("deferred_retry", workdir, script, retries=1, retry_delay=timedelta(0))).states == {
        "job": "success"
    }
    states = sorted(job.state for job in system.jobs() if job.workdir == str(workdir))
    assert states == [JobState.COMPLETED, JobState.FAILED]


def test_the_default_is_airflows(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("crestline_airflow.operators.submit")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)  # a second copy: other tests compare with the class of the first
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    spec.loader.exec_module(fresh)
    assert fresh.FirecRESTSubmitOperator(task_id="job", script="#!/bin/sh\n").deferrable


def test_a_worker_ends_what_the_triggerer_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = SimpleNamespace(has_listeners=False)
    monkeypatch.setattr("crestline_airflow.operators.submit.get_listener_manager", lambda: listeners)

    class Derived(FirecRESTSubmitOperator):
        pass

    def ends_in_triggerer(kind: type[FirecRESTSubmitOperator] = FirecRESTSubmitOperator, **options: Any) -> bool:
        return kind(task_id="job", script="#!/bin/sh\n", deferrable=True, **options)._ends_in_triggerer()

    assert ends_in_triggerer()
    assert ends_in_triggerer(array="0-3", on_failure_callback=print, retries=2)
    needs_worker: list[dict[str, Any]] = [
        {"outlets": [Asset("firecrest://daint/scratch/out")]},
        {"on_success_callback": print},
        {"post_execute": print},
        {"multiple_outputs": True},
        {"kind": Derived},
    ]
    assert [options for options in needs_worker if ends_in_triggerer(**options)] == []
    listeners.has_listeners = True
    assert not ends_in_triggerer()


def test_a_deferral_that_times_out_cancels_the_job(workdir: Path, system: BlockingSystem) -> None:
    """Airflow resumes the task with a word that it has failed, and does not tell the trigger."""
    operator = one_job("deferred_late", workdir, "#!/bin/bash\nsleep 600\n").task_dict["job"]
    store: dict[str, Any] = {}
    context = {
        "ti": SimpleNamespace(dag_id="late", run_id=workdir.name, task_id="job", map_index=-1, max_tries=0),
        "task_state_store": SimpleNamespace(get=store.get, set=store.__setitem__),
    }
    with pytest.raises(TaskDeferred):
        operator.execute.__wrapped__(operator, context)
    [job] = [job for job in system.jobs() if job.workdir == str(workdir)]
    assert not job.is_finished
    with pytest.raises(TaskDeferralTimeout):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert system.wait(job).state is JobState.CANCELLED


def test_the_end_of_another_attempts_job_is_not_taken_for_this_ones(workdir: Path, system: BlockingSystem) -> None:
    """The trigger of a deleted task instance can answer for the new one, where the database reuses its number."""
    operator = one_job("deferred_anew", workdir, "#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\n").task_dict["job"]
    store: dict[str, Any] = {}
    context = {
        "ti": SimpleNamespace(dag_id="anew", run_id=workdir.name, task_id="job", map_index=-1, max_tries=0),
        "task_state_store": SimpleNamespace(get=store.get, set=store.__setitem__),
    }
    with pytest.raises(TaskDeferred):
        operator.execute.__wrapped__(operator, context)
    [job] = [job for job in system.jobs() if job.workdir == str(workdir)]
    for event in ({"job_id": "1", "state": "cancelled"}, {"job_id": "1", "error": "lost"}):
        with pytest.raises(TaskDeferred) as again:
            operator.execute_complete(context, event)
        assert again.value.trigger.job_id == job.job_id
    (workdir / "go").touch()
    system.wait(job)
    assert operator.execute_complete(context, {"job_id": job.job_id, "state": "completed"})["state"] == "completed"


@contextmanager
def trigger_of(done: Run, job_id: str) -> Iterator[FirecRESTJobTrigger]:
    """A trigger as a triggerer has it: with its task instance, and a supervisor that answers requests about it."""
    from airflow.sdk.execution_time.supervisor import (
        InProcessSupervisorComms,
        InProcessTestSupervisor,
        set_supervisor_comms,
    )

    [ti] = done.dag_run.get_task_instances()
    trigger = FirecRESTJobTrigger("firecrest_default", "local", job_id)
    trigger.task_instance = ti
    supervisor = InProcessTestSupervisor(
        id=ti.id, pid=0, process=None, process_log=None, client=InProcessTestSupervisor._api_client()
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield trigger


def waiting_jobs(system: BlockingSystem, workdir: Path) -> list[str]:
    """Two jobs that take the place of transfer jobs."""
    spec = JobSpec(script="#!/bin/bash\nsleep 600\n", workdir=str(workdir))
    return [system.submit(spec).job_id for _ in range(2)]


def test_a_kill_cancels_transfer_jobs(workdir: Path, system: BlockingSystem) -> None:
    run(one_job("kill_transfers", workdir, "#!/bin/bash\ntrue\n"))
    job_ids = waiting_jobs(system, workdir)
    with trigger_of(last_run(one_job("kill_transfers", workdir, "")), job_ids[0]) as trigger:
        (workdir / "archive").touch()
        temporary = [f"{workdir}/archive", f"{workdir}/never-made"]
        transfers = FirecRESTTransferTrigger("firecrest_default", "local", job_ids, temporary)
        transfers.task_instance = trigger.task_instance
        asyncio.run(transfers.on_kill())
    assert {system.wait(job_id, timeout=60).state for job_id in job_ids} == {JobState.CANCELLED}
    assert not (workdir / "archive").exists()


def test_a_deferral_that_times_out_cancels_transfer_jobs(workdir: Path, system: BlockingSystem) -> None:
    operator = FirecRESTUploadOperator(task_id="up", system="local", source_path="a", target_path="b", deferrable=True)
    job_ids = waiting_jobs(system, workdir)
    left = {"job_ids": job_ids, "temporary": [f"{workdir}/archive"]}
    (workdir / "archive").touch()
    context = {"ti": SimpleNamespace(map_index=-1, xcom_pull=lambda **_: left)}
    with pytest.raises(TaskDeferralTimeout):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert {system.wait(job_id, timeout=60).state for job_id in job_ids} == {JobState.CANCELLED}
    assert not (workdir / "archive").exists()


@pytest.mark.parametrize(
    ("state", "end"),
    [("deferred", JobState.COMPLETED), ("failed", JobState.CANCELLED), (None, JobState.CANCELLED)],
)
def test_only_a_user_kills(workdir: Path, system: BlockingSystem, state: str | None, end: JobState) -> None:
    """A triggerer that lost its triggers to another one is told the same as after a user's kill."""
    dag = one_job(f"kill_{state}", workdir, "#!/bin/bash\ntrue\n")
    run(dag)
    done = last_run(dag)
    for ti in done.dag_run.get_task_instances():
        ti.set_state(state)
    script = "#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\n"
    job = system.submit(JobSpec(script=script, workdir=str(workdir)))
    with trigger_of(done, job.job_id) as trigger:
        asyncio.run(trigger.on_kill())
    if end is JobState.COMPLETED:
        (workdir / "go").touch()
    assert system.wait(job, timeout=60).state is end


def test_a_kill_that_is_interrupted_still_cancels(workdir: Path, system: BlockingSystem) -> None:
    """Airflow cancels, once a second, the `on_kill` that it has called."""
    dag = one_job("kill_interrupted", workdir, "#!/bin/bash\ntrue\n")
    run(dag)
    job = system.submit(JobSpec(script="#!/bin/bash\nsleep 600\n", workdir=str(workdir)))

    async def interrupted(trigger: FirecRESTJobTrigger) -> None:
        killing = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        await asyncio.gather(*triggers._killing)

    with trigger_of(last_run(dag), job.job_id) as trigger:
        asyncio.run(interrupted(trigger))
    assert system.wait(job, timeout=60).state is JobState.CANCELLED


def test_a_trigger_survives_serialization() -> None:
    classpath, kwargs = FirecRESTJobTrigger("alps", "daint", "42").serialize()
    assert classpath == "crestline_airflow.triggers.FirecRESTJobTrigger"
    assert FirecRESTJobTrigger(**kwargs).serialize() == (classpath, kwargs)
    classpath, kwargs = FirecRESTTransferTrigger("alps", "daint", ["42", "43"], ["/tmp/a"]).serialize()
    assert classpath == "crestline_airflow.operators.transfer.FirecRESTTransferTrigger"
    assert FirecRESTTransferTrigger(**kwargs).serialize() == (classpath, kwargs)
