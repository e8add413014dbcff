"""A job for each event of a DAG or a task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.model import GatewayUnavailableError, Job, JobState
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.notifications import FirecRESTJobNotifier
from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run


def jobs_in(workdir: Path) -> list[str]:
    """States of the jobs there, each as soon as it has ended."""
    with FirecRESTHook().get_conn() as system:
        return [str(system.wait(job).state) for job in system.jobs() if job.workdir == str(workdir)]


def test_a_task_that_fails_submits_a_job(workdir: Path) -> None:
    notifier = FirecRESTJobNotifier(
        command="echo {{ ti.task_id }} > event.txt", working_dir=str(workdir), time_limit="00:05:00"
    )
    with DAG("notifies", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", script_path="/no/such/script", on_failure_callback=notifier)
    assert run(dag).states == {"job": "failed"}
    assert jobs_in(workdir) == ["completed"]
    assert (workdir / "event.txt").read_text() == "job\n"


@pytest.mark.parametrize("awaited", [False, True])
def test_an_event_that_comes_twice_is_one_job(workdir: Path, awaited: bool) -> None:
    def deliver(try_number: int) -> None:
        ti = SimpleNamespace(id=f"id-{awaited}-{try_number}", task_id="job", try_number=try_number)
        context: Any = {"ti": ti, "try": try_number}
        options: dict[str, Any] = {"command": "true", "working_dir": str(workdir)}
        if awaited:

            async def notify() -> None:
                await FirecRESTJobNotifier(context=context, **options)

            asyncio.run(notify())
        else:
            FirecRESTJobNotifier(**options)(context)

    for try_number in (1, 1, 2):
        deliver(try_number)
    assert jobs_in(workdir) == ["completed", "completed"]


@pytest.mark.anyio
async def test_a_deadline_outlasts_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    class Gateway:
        name = "lab"

        async def __aenter__(self) -> Gateway:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def submit(self, _: object, *, key: str) -> Job:
            keys.append(key)
            if len(keys) < 3:
                raise GatewayUnavailableError("it does not answer")
            return Job(job_id="1", state=JobState.SUBMITTED)

    async def aget_conn(*_: object) -> Gateway:
        return Gateway()

    monkeypatch.setattr(FirecRESTHook, "aget_conn", aget_conn)
    monkeypatch.setattr("crestline_airflow.shared._REOPEN_DELAY", 0.0)
    await FirecRESTJobNotifier(command="true").async_notify({})
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(TypeError, match="gpu_count"):
        FirecRESTJobNotifier(command="true", gpu_count=2)
