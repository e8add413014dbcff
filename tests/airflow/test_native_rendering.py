"""`render_template_as_native_obj=True`: fields that are templates become numbers, lists, dictionaries and None."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task

from crestline.model import InvalidRequestError
from crestline_airflow.attempts import Attempt
from crestline_airflow.operators import (
    FirecRESTDownloadOperator,
    FirecRESTMakeScratchOperator,
    FirecRESTRemoveScratchOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)
from crestline_airflow.rendered import required, single, texts
from crestline_airflow.resources import RESOURCES, job_spec
from crestline_airflow.sensors import FirecRESTFileSensor, FirecRESTJobSensor
from crestline_airflow.triggers import FirecRESTSubmitTrigger
from harness.airflow_dags import run
from harness.gateway import RunningGateway

PARAMS = {"nothing": None, "number": 20261130, "list": ["a.txt", "b.txt"], "environment": {"A": 1, "B": None, "C": [1]}}


@pytest.fixture
def workdir(gateway: RunningGateway, define: Any, tmp_path: Path) -> Path:
    define(gateway, conn_id="7")
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def test_every_operator_takes_what_native_rendering_gives(workdir: Path, tmp_path: Path, task_log: Any) -> None:
    for name in PARAMS["list"]:  # type: ignore[union-attr]
        (tmp_path / name).write_text(name)
    params = PARAMS | {"sources": [str(tmp_path / name) for name in PARAMS["list"]]}  # type: ignore[union-attr]
    common: dict[str, Any] = {"firecrest_conn_id": "{{ 7 }}", "system": "{{ params.nothing }}"}
    with DAG("native", schedule=None, params=params, render_template_as_native_obj=True) as dag:
        make = FirecRESTMakeScratchOperator(task_id="make", path=f"{workdir}/{{{{ params.number }}}}", **common)
        up = FirecRESTUploadOperator(
            task_id="up", source_path="{{ params.sources }}", target_path=f"{workdir}/{{{{ params.number }}}}", **common
        )
        submit = FirecRESTSubmitOperator(
            task_id="submit",
            command="{{ ['cat a.txt b.txt', 'env'] }}",
            script_path="{{ params.nothing }}",
            working_dir=f"{workdir}/20261130",
            job_name="{{ params.number }}",
            account="{{ params.number }}",
            partition="{{ params.nothing }}",
            constraint="{{ params.nothing }}",
            memory="{{ 100 }}",
            time_limit="5",
            nodes="{{ params.nothing }}",
            tasks="{{ 1 }}",
            array="{{ [1, 3] }}",
            after="{{ params.nothing }}",
            directives="{{ ['--comment=x'] }}",
            environment="{{ params.environment }}",
            inputs="{{ params.list }}",
            outputs="{{ params.nothing }}",
            **common,
        )
        file = FirecRESTFileSensor(task_id="file", path=f"{workdir}/{{{{ params.number }}}}/a.txt", **common)
        job = FirecRESTJobSensor(task_id="job", job_id="{{ ti.xcom_pull('submit')['job_id'] }}", **common)
        down = FirecRESTDownloadOperator(
            task_id="down",
            target_task_id="submit",
            remote_files="{{ params.list }}",
            local_path=f"{tmp_path}/down/",
            **common,
        )

        @task.firecrest(working_dir=str(workdir), prologue="{{ params.nothing }}", **common)
        def function(number: Any, things: Any) -> list[Any]:
            return [number, things]

        value = function("{{ params.number }}", "{{ params.list }}")
        remove = FirecRESTRemoveScratchOperator(task_id="remove", path=make.output, created_by="make", **common)
        make >> up >> submit >> file >> job >> down >> value >> remove
    done = run(dag)
    assert set(done.states.values()) == {"success"}, task_log.errors
    left = done.xcom("submit")
    assert [element["state"] for element in left["elements"]] == ["completed", "completed"]
    assert {path.name for path in (tmp_path / "down").iterdir()} == {"a.txt", "b.txt"}
    assert done.xcom("function") == [PARAMS["number"], PARAMS["list"]]


def test_a_text_of_digits_is_minutes_and_a_number_is_seconds(workdir: Path) -> None:
    with DAG("native_time", schedule=None, render_template_as_native_obj=True) as dag:
        FirecRESTSubmitOperator(task_id="text", firecrest_conn_id="7", command="true", time_limit="5")
        FirecRESTSubmitOperator(task_id="number", firecrest_conn_id="7", command="true", time_limit="{{ 60 * 5 }}")
    done = run(dag)
    limits = []
    for name in ("text", "number"):
        with dag.task_dict[name].hook.get_conn() as system:
            limits.append(system.job(done.xcom(name)["job_id"]).times.limit)
    assert limits == [300, 300]


def spec_of(**fields: Any) -> Any:
    given = dict.fromkeys((*RESOURCES, "script_path", "job_name", "command"))
    task = SimpleNamespace(**given | {"script": "#!/bin/bash\n"} | fields)
    return job_spec(task, "", Attempt(key="k", number=0, clearing=0))


@pytest.mark.parametrize(
    ("field", "value", "is_then"),
    [
        ("account", 42, "42"),
        ("account", None, None),
        ("partition", ["a", "b"], "a,b"),
        ("qos", 1, "1"),
        ("reservation", 7, "7"),
        ("constraint", ("gpu", "hbm"), "gpu,hbm"),
        ("memory", 4096, "4096"),
        ("array", (1, 3), "1,3"),
        ("array", 5, "5"),
        ("dependency", ["afterok:1", "afterok:2"], "afterok:1,afterok:2"),
        ("gpus", 4, 4),
        ("time_limit", 60, 60),
        ("time_limit", timedelta(minutes=5), 300),
        ("time_limit", " 5:00\n", "5:00"),
        ("memory", 4096.0, "4096"),
        ("memory", Decimal(4096), "4096"),
        ("account", " proj1 ", "proj1"),
        ("array", 3.0, "3"),
        ("array", range(3), "0,1,2"),
        ("nodes", Decimal(2), 2),
        ("nodes", " 2 ", 2),
        ("gpus", " a100:4 ", "a100:4"),
        ("nodes", 2.0, 2),
        ("nodes", "2", 2),
        ("exclusive", None, False),
        ("exclusive", "True", True),
        ("directives", "--mail-type=END", ("--mail-type=END",)),
        ("directives", None, ()),
        (
            "environment",
            {"A": [Decimal(1)], "B": {"at": date(2026, 1, 1)}},
            {"A": '["1"]', "B": '{"at": "2026-01-01"}'},
        ),
        ("environment", {"A": None, 5: True, "J": {"x": 1}, "T": (1, 2)}, {"5": "True", "J": '{"x": 1}', "T": "1,2"}),
    ],
)
def test_a_resource(field: str, value: Any, is_then: Any) -> None:
    assert getattr(spec_of(**{field: value}), field) == is_then


@pytest.mark.parametrize("field", ["script", "job_name", "script_path"])
def test_other_parts_of_a_job(field: str) -> None:
    if field == "script":
        assert spec_of(script=["#!/bin/bash", "true"]).script == "#!/bin/bash\ntrue"
    elif field == "job_name":
        assert spec_of(job_name=5).name == "5"
    else:
        assert spec_of(script=None, script_path=("/a",)).script_path == "/a"


def test_what_can_be_none_of_these_is_refused_by_name() -> None:
    for value in ([], None, "", " "):
        with pytest.raises(InvalidRequestError, match="job_id is empty"):
            required(value, "job_id")
    with pytest.raises(InvalidRequestError, match="path takes one text"):
        single(["a", "b"], "path")
    with pytest.raises(InvalidRequestError, match="nodes"):
        spec_of(nodes=[1, 2])
    assert texts([Path("/a"), ["b", None], 3]) == ["/a", "b", "3"]


@pytest.mark.parametrize(
    ("template", "is_then"),
    [
        ("{{ params.element }}", "12_3"),
        ("{{ params.version }}", "1.10"),
        ("12e4567", "12e4567"),
        ("0x1f", "0x1f"),
        ("{{ params.job }}", 12),
        ("{{ 8 / 2 }}", 4.0),
        ("{{ params.version, 1 }}", ("1.10", 1)),
        (["{{ params.element }}"], ["12_3"]),
    ],
)
def test_native_rendering_changes_no_text(template: Any, is_then: Any) -> None:
    """As a literal of Python, the id `12_3` of an array's element is the number 123."""
    params = {"element": "12_3", "version": "1.10", "job": "12"}
    with DAG("exact", schedule=None, params=params, render_template_as_native_obj=True):
        sensor = FirecRESTJobSensor(task_id="sensor", job_id="1")
        operator = FirecRESTSubmitOperator(task_id="operator", command="true")
    for task_of_dag in (sensor, operator):
        rendered = task_of_dag.render_template(template, {"params": params})
        assert (rendered, type(rendered)) == (is_then, type(is_then))


def test_a_task_without_a_worker_takes_what_other_tasks_return() -> None:
    with DAG("without_worker", schedule=None):
        before = FirecRESTSubmitOperator(task_id="before", command="true")
        operator = FirecRESTSubmitOperator(
            task_id="job",
            command="true",
            array=before.output,
            environment={"A": before.output, "B": ["1"]},
            start_from_trigger=True,
        )
    operator.resolve_template_files()
    trigger = FirecRESTSubmitTrigger(**operator.start_trigger_args.trigger_kwargs)
    trigger = FirecRESTSubmitTrigger(**trigger.serialize()[1])
    trigger.template_fields = ("array", "environment")
    trigger.render_template_fields({"task_instance": SimpleNamespace(xcom_pull=lambda **_: [1, 3])})
    assert trigger.array == [1, 3]  # type: ignore[attr-defined]
    assert trigger.environment == {"A": "[1, 3]", "B": ["1"]}  # type: ignore[attr-defined]


def test_a_task_without_a_worker_renders_as_its_dag_does() -> None:
    with DAG("native_zero", schedule=None, render_template_as_native_obj=True) as dag:
        operator = FirecRESTSubmitOperator(task_id="job", command="{{ [1, 2] }}", start_from_trigger=True)
    operator.resolve_template_files()  # as Airflow does before it serializes the task
    trigger = FirecRESTSubmitTrigger(**dag.task_dict["job"].start_trigger_args.trigger_kwargs)
    trigger = FirecRESTSubmitTrigger(**trigger.serialize()[1])
    trigger.template_fields = ("command",)
    trigger.render_template_fields({})
    assert trigger.command == [1, 2]  # type: ignore[attr-defined]
