"""Which failures are tried again, and what is said about them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, task

from crestline.testing.firecrest import PlainFirecrest, running
from crestline_airflow.failures import FirecRESTRetryPolicy
from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run

SCRIPT = "#!/bin/bash\necho running up\nsleep 600\n"
SOON = timedelta(0)
SENTENCES = {
    "NODE_FAIL": "A node of job {job} (n01) failed.",
    "PREEMPTED": "Job {job} was preempted by other jobs.",
    "OUT_OF_MEMORY": "Job {job} ran out of memory.",
    "TIMEOUT": "Job {job} reached its time limit of 1-00:00:00.",
}


@pytest.fixture
def plain(define: Any) -> Iterator[PlainFirecrest]:
    with running() as plain:
        define(plain)
        yield plain


def dag(name: str, **options: Any) -> DAG:
    with DAG(name, schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", script=SCRIPT, retries=1, retry_delay=SOON, **options)
    return dag


@pytest.mark.parametrize(
    ("state", "jobs", "advice"),
    [
        ("NODE_FAIL", 2, "with retries="),
        ("PREEMPTED", 2, "with retries="),
        ("OUT_OF_MEMORY", 1, "memory="),
        ("TIMEOUT", 1, "time_limit="),
    ],
)
def test_what_the_scheduler_says_decides(
    plain: PlainFirecrest, task_log: Any, state: str, jobs: int, advice: str
) -> None:
    def end() -> None:
        plain.scheduler.end(plain.jobs()[-1].id, state)
        if len(plain.jobs()) < jobs:
            task_log.when("running up", end)

    task_log.when("running up", end)
    policy = FirecRESTRetryPolicy(delay_after_node_failure=SOON)
    assert run(dag(f"ends_{state.lower()}", retry_policy=policy)).states == {"job": "failed"}
    assert len(plain.jobs()) == jobs
    lines = task_log.lines("submit")
    assert task_log.errors[-1] == SENTENCES[state].format(job=plain.jobs()[-1].id)
    assert task_log.errors[-1] in lines
    [hint] = {line for line in lines if line.startswith("Hint: ")}
    assert advice in hint
    assert "exit code 0" not in "".join(lines)


def test_a_retry_asks_for_more_memory(plain: PlainFirecrest, task_log: Any) -> None:
    def end(state: str) -> None:
        plain.scheduler.end(plain.jobs()[-1].id, state)
        task_log.when("running up", lambda: end("COMPLETED"))

    task_log.when("running up", lambda: end("OUT_OF_MEMORY"))
    policy = FirecRESTRetryPolicy(more_memory=2)
    assert run(dag("grows", memory="1G", retry_policy=policy)).states == {"job": "success"}, task_log.errors
    first, second = (job.script for job in plain.jobs())
    assert "--mem=1G" in first
    assert "--mem=2048M" in second


def test_a_refused_identity_fails_at_once(plain: PlainFirecrest, define: Any, task_log: Any) -> None:
    define(plain, password="wrong")
    assert run(dag("refused_identity")).states == {"job": "failed"}
    assert len(task_log.errors) == 1
    assert not plain.jobs()


def test_a_factor_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="more_memory"):
        FirecRESTRetryPolicy(more_memory=0.5)


def test_a_policy_survives_serialization() -> None:
    policy = FirecRESTRetryPolicy(more_memory=2, more_time=1.5)
    assert FirecRESTRetryPolicy.deserialize(policy.serialize()).serialize() == policy.serialize()


def test_a_policy_of_default_args_is_asked() -> None:
    policy = FirecRESTRetryPolicy(more_memory=3)
    with DAG("defaults", schedule=None, default_args={"retry_policy": policy}) as dag:
        FirecRESTSubmitOperator(task_id="job", script=SCRIPT)
        FirecRESTSubmitOperator(task_id="own", script=SCRIPT, retry_policy=FirecRESTRetryPolicy(more_time=2))
        FirecRESTSubmitOperator(task_id="without_worker", script=SCRIPT, start_from_trigger=True)

        @task.firecrest
        def function() -> None: ...

        function()
        with TaskGroup("group", default_args={"retry_policy": FirecRESTRetryPolicy(more_memory=5)}):
            FirecRESTSubmitOperator(task_id="inner", script=SCRIPT)
    factors = {name: each.retry_policy.more_memory for name, each in dag.task_dict.items()}
    assert factors == {"job": 3, "own": None, "without_worker": 3, "function": 3, "group.inner": 5}
    assert dag.task_dict["without_worker"].start_trigger_args.trigger_kwargs["more_memory"] == 3
