"""What a task asks of the scheduler: resources, arrays, dependencies on other tasks' jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.model import InvalidRequestError
from crestline.testing.firecrest import running
from crestline_airflow.attempts import Attempt
from crestline_airflow.operators import FirecRESTSubmitOperator
from crestline_airflow.resources import after_jobs, job_spec, more_memory
from harness.airflow_dags import run
from harness.slurm_gateway import SlurmGateway

FIRST = Attempt(key="k", number=0, clearing=0)


@pytest.fixture(params=["local", "slurm", "plain"])
def anywhere(request: pytest.FixtureRequest, define: Any) -> Any:
    """Name of the system of each backend in turn, with a connection to it."""
    if request.param == "plain":
        with running() as plain:
            define(plain)
            yield plain.system
    elif request.param == "slurm":
        slurm: SlurmGateway = request.getfixturevalue("slurm_gateway")
        client_id, secret = slurm.client_of("alice")
        define(slurm, login=client_id, password=secret)
        yield slurm.system
    else:
        define(request.getfixturevalue("gateway"))
        yield "local"


def task(**options: Any) -> FirecRESTSubmitOperator:
    return FirecRESTSubmitOperator(task_id="job", **{"script": "#!/bin/bash\ntrue\n"} | options)


def test_rendered_text_becomes_numbers() -> None:
    spec = job_spec(task(nodes="2", exclusive="true", gpus="", environment={"N": 3}), "/w", FIRST)
    assert (spec.nodes, spec.exclusive, spec.gpus, spec.environment) == (2, True, None, {"N": "3"})


def test_commands_become_a_script() -> None:
    assert job_spec(task(script=None, command="srun pw.x"), "", FIRST).script == "#!/bin/bash\nset -e\nsrun pw.x \n"


@pytest.mark.parametrize(
    "options", [{"script": None}, {"command": "true"}, {"nodes": "many"}, {"script": None, "script_path": ""}]
)
def test_what_no_job_can_have_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        job_spec(task(**options), "", FIRST)


def test_an_attempt_may_ask_for_more() -> None:
    attempt = Attempt(key="k", number=1, clearing=0, memory_factor=2.0, time_factor=1.5)
    spec = job_spec(task(memory="4G", time_limit="01:00:00"), "", attempt)
    assert (spec.memory, spec.time_limit) == ("8192M", 5400)
    assert job_spec(task(), "", attempt).memory is None


@pytest.mark.parametrize("text", ["", "4 bananas", "G"])
def test_invalid_memory_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        more_memory(text, 2)


def test_dependencies_on_other_tasks() -> None:
    assert after_jobs([("a", {"job_id": "1", "state": "completed"})]) is None
    left = {"job_id": "2", "state": "submitted"}
    assert after_jobs([("b", left), ("c", left | {"job_id": "3"})]) == "afterok:2:3"
    with pytest.raises(InvalidRequestError, match="'d'"):
        after_jobs([("d", None)])


def test_resources_reach_the_job(anywhere: str, task_log: Any) -> None:
    with DAG("resources", schedule=None, params={"tasks": 2}) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system=anywhere,
            command="echo $SLURM_JOB_NAME $SLURM_NTASKS has ${WORD}",
            job_name="named",
            tasks="{{ params.tasks }}",
            time_limit="00:05:00",
            environment={"WORD": "a, b"},
        )
    assert run(dag).states == {"job": "success"}, task_log.errors
    [line] = [line for line in task_log.lines("submit") if "has" in line and "a, b" in line]
    assert line.startswith("named")
    assert " 2 " in line or anywhere == "lab"


def test_an_array_is_one_task(anywhere: str, task_log: Any) -> None:
    with DAG("array", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", system=anywhere, command="true", array="1-3")
        FirecRESTSubmitOperator(task_id="bad", system=anywhere, command="exit $SLURM_ARRAY_TASK_ID", array="0-2")
    done = run(dag)
    assert done.states == {"job": "success", "bad": "failed"}, task_log.errors
    left = done.xcom("job")
    assert [element["state"] for element in left["elements"]] == ["completed"] * 3
    numbers = [element["job_id"].rpartition("_")[2] for element in left["elements"]]
    assert numbers == ["1", "2", "3"]
    for number, element in zip(numbers, left["elements"], strict=True):
        assert element["stdout"].endswith(f"slurm-{left['job_id']}_{number}.out")
    assert "exit code 1" in task_log.errors[-1]


def test_a_job_after_that_of_another_task(anywhere: str, task_log: Any) -> None:
    with DAG("after", schedule=None) as dag:
        first = FirecRESTSubmitOperator(
            task_id="first", system=anywhere, command="sleep 2; date +%s > first-done", wait=False
        )
        second = FirecRESTSubmitOperator(task_id="second", system=anywhere, command="cat first-done", after="first")
        first >> second
    done = run(dag)
    assert done.states == {"first": "success", "second": "success"}, task_log.errors
    assert done.xcom("first")["state"] == "submitted"


def test_a_task_without_a_worker_says_what_the_triggerer_needs(tmp_path: Path) -> None:
    (tmp_path / "job.sbatch").write_text("#!/bin/bash\necho {{ ds }}\n")
    with DAG("zero", schedule=None, template_searchpath=str(tmp_path)) as dag:
        operator = FirecRESTSubmitOperator(task_id="job", script="job.sbatch", memory="4G", start_from_trigger=True)
    dag.resolve_template_files()
    kwargs = operator.start_trigger_args.trigger_kwargs
    assert kwargs["script"] == "#!/bin/bash\necho {{ ds }}\n"
    assert kwargs["memory"] == "4G"
    from airflow.sdk._shared.module_loading import import_string

    trigger = import_string(operator.start_trigger_args.trigger_cls)(**kwargs)
    trigger.task_instance = SimpleNamespace(task=operator, task_id="job")
    assert "script" in trigger.template_fields
    assert trigger.serialize()[1] == kwargs


def test_a_task_without_a_worker_runs_where_there_is_no_triggerer(workdir: Path) -> None:
    """`dag.test()` has none."""
    with DAG("zero_run", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system="local", command="true", working_dir=str(workdir), start_from_trigger=True
        )
    assert run(dag).states == {"job": "success"}
