"""The button of a task that leads to its job."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task

from crestline.model import ConfigError, JobSpec
from crestline.testing.firecrest import running
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.links import FirecRESTJobLink
from crestline_airflow.operators import FirecRESTSubmitOperator
from crestline_airflow.sensors import FirecRESTJobSensor
from harness.airflow_dags import Run, run
from harness.gateway import RunningGateway

KEY = FirecRESTJobLink().xcom_key


def with_page(gateway: RunningGateway, page: str) -> dict[str, Any]:
    return {"extra": {"auth_url": gateway.token_url, "system": "local", "job_page": page}}


def link(done: Run, task_id: str) -> Any:
    return done.dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=KEY)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_has_a_page(gateway: RunningGateway, define: Any, deferrable: bool) -> None:
    define(gateway, **with_page(gateway, "https://monitoring.example.org/{system}?job={job_id}"))
    with DAG(f"page_{deferrable}", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", script="#!/bin/bash\ntrue\n", deferrable=deferrable)
    done = run(dag)
    assert link(done, "job") == f"https://monitoring.example.org/local?job={done.xcom('job')['job_id']}"


def test_the_page_is_known_while_the_job_runs(gateway: RunningGateway, define: Any, task_log: Any) -> None:
    from airflow.models.dagrun import DagRun

    define(gateway)
    seen = []

    def look() -> None:
        [dag_run] = DagRun.find(dag_id="page_while_running")
        seen.append(link(Run(dag_run), "job"))
        with FirecRESTHook().get_conn() as system:
            system.write_text(f"{system.default_workdir()}/page-go", "")

    with DAG("page_while_running", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", script="#!/bin/bash\necho running up\nuntil [ -e page-go ]; do sleep 0.1; done\n"
        )
    task_log.when("running up", look)
    done = run(dag)
    assert seen == [f"{gateway.url}/#/jobs/local/{done.xcom('job')['job_id']}"]
    assert f"Job page: {seen[0]}" in task_log.lines("submit")


def test_an_invalid_page_does_not_fail_the_job(gateway: RunningGateway, define: Any) -> None:
    define(gateway, **with_page(gateway, "nowhere"))
    with DAG("page_invalid", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", script="#!/bin/bash\ntrue\n")
    assert run(dag).states == {"job": "success"}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_leads_to_its_job(gateway: RunningGateway, define: Any, deferrable: bool) -> None:
    define(gateway)
    with FirecRESTHook().get_conn() as system:
        job = system.submit(JobSpec(script="#!/bin/bash\nsleep 1\n"))
    with DAG(f"page_sensor_{deferrable}", schedule=None) as dag:
        FirecRESTJobSensor(task_id="wait", job_id=job.job_id, poke_interval=0.5, deferrable=deferrable)
    done = run(dag)
    assert done.states == {"wait": "success"}
    assert link(done, "wait") == f"{gateway.url}/#/jobs/local/{job.job_id}"


def test_a_failed_one_too_and_without_a_page_it_is_the_gateways(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    with DAG("page_of_gateway", schedule=None) as dag:

        @task.firecrest(python="false")
        def fail() -> None: ...

        fail()
    done = run(dag)
    assert done.states == {"fail": "failed"}
    job_id = done.dag_run.get_task_instance("fail").xcom_pull(task_ids="fail", key="job_id")
    assert link(done, "fail") == f"{gateway.url}/#/jobs/local/{job_id}"


def test_a_plain_firecrest_has_no_pages(define: Any) -> None:
    with running() as plain:
        define(plain)
        with DAG("page_of_plain", schedule=None) as dag:
            FirecRESTSubmitOperator(task_id="job", script="#!/bin/bash\ntrue\n")
        done = run(dag)
        assert done.states == {"job": "success"}
        assert not link(done, "job")


@pytest.mark.parametrize("page", ["javascript:alert(1)", "https://example.org/{user}", "https://example.org/{"])
def test_invalid_job_page_is_refused(gateway: RunningGateway, define: Any, page: str) -> None:
    define(gateway, **with_page(gateway, page))
    with pytest.raises(ConfigError, match="job_page"):
        FirecRESTHook().job_page("local", "1")


def test_what_stands_in_an_id_cannot_change_the_url(gateway: RunningGateway, define: Any) -> None:
    define(gateway, **with_page(gateway, "https://example.org/{system}/{job_id}"))
    assert FirecRESTHook().job_page("a/../b", "1?x=") == "https://example.org/a%2F..%2Fb/1%3Fx%3D"
