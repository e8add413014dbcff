"""`@task.firecrest`: functions of a DAG that run as jobs, on all kinds of systems."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from crestline.model import InvalidRequestError
from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import Run, run

__all__ = ["anywhere"]


def values(done: Run, task_id: str) -> list[Any]:
    """What the instances of a mapped task returned, by index."""
    instances = [ti for ti in done.dag_run.get_task_instances() if ti.task_id == task_id]
    instances.sort(key=lambda ti: ti.map_index)
    return [ti.xcom_pull(task_ids=task_id, map_indexes=ti.map_index) for ti in instances]


def left_behind(place: Place) -> list[str]:
    with place.open() as system:
        return system.glob(f"{place.workdir}/.crestline/functions/*")


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_function_runs_as_a_job(anywhere: Place, deferrable: bool, task_log: Any) -> None:
    """Arguments, templates, context, the value, the working directory and the log, in one run."""
    with DAG(f"functions_{anywhere.kind}_{deferrable}", schedule=None, params={"unit": "eV"}) as dag:

        @task
        def numbers() -> list[int]:
            return [3, 5, 8]

        @task.firecrest(
            system=anywhere.system,
            python=anywhere.python,
            working_dir=anywhere.workdir,
            prologue="export WORD=set",
            time_limit="00:05:00",
            deferrable=deferrable,
        )
        def add(
            terms: list[int], *, title: str, when: datetime, params: Any = None, run_id: Any = None
        ) -> dict[str, Any]:
            import os

            print("adding", len(terms), "numbers")
            return {
                "sum": sum(terms),
                "title": title,
                "when": repr(when),
                "unit": params["unit"],
                "run": run_id,
                "word": os.environ["WORD"],
                "job": os.environ["SLURM_JOB_ID"],
                "place": os.getcwd(),
            }

        add(numbers(), title="of {{ dag.dag_id }}", when=datetime(2024, 5, 8, tzinfo=UTC))
    done = run(dag)
    assert done.states == {"numbers": "success", "add": "success"}, task_log.errors
    value = done.xcom("add")
    assert value["sum"] == 16
    assert value["title"] == f"of {dag.dag_id}"
    assert value["when"] == repr(datetime(2024, 5, 8, tzinfo=UTC))
    assert value["unit"] == "eV"
    assert value["run"] == done.dag_run.run_id
    assert value["word"] == "set"
    assert value["place"] in (anywhere.workdir, os.path.realpath(anywhere.workdir))
    assert [line for _, line in task_log.entries].count("adding 3 numbers") == 1
    with anywhere.open() as system:
        assert system.job(value["job"]).state == "completed"
    assert left_behind(anywhere) == []


def test_mapped_calls_and_their_reduction(anywhere: Place, task_log: Any) -> None:
    with DAG(f"mapped_{anywhere.kind}", schedule=None) as dag:
        options = {"system": anywhere.system, "python": anywhere.python, "working_dir": anywhere.workdir}

        @task.firecrest(**options)
        def square(number: int, offset: int) -> int:
            return number**2 + offset

        @task.firecrest(**options)
        def total(squares: list[int]) -> int:
            return sum(squares)

        total(square.partial(offset=1).expand(number=[1, 2, 3]))
    done = run(dag)
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert values(done, "square") == [2, 5, 10]
    assert done.xcom("total") == 17
    assert left_behind(anywhere) == []


def test_an_exception_comes_back_with_its_traceback(anywhere: Place, task_log: Any) -> None:
    with DAG(f"raises_{anywhere.kind}", schedule=None) as dag:

        @task.firecrest(system=anywhere.system, python=anywhere.python, working_dir=anywhere.workdir)
        def diverge(step: float) -> None:
            energies = [step]
            if energies[0] > 0.1:
                raise ArithmeticError(f"no convergence with step {step}")

        diverge(0.5)
    assert run(dag).states == {"diverge": "failed"}
    message = task_log.errors[-1]
    assert message == "diverge() raised ArithmeticError: no convergence with step 0.5"
    lines = task_log.lines("decorators")
    message = "\n".join(lines[lines.index(message) :])
    assert "exit code 1" not in message
    line = 1 + next(
        number
        for number, text in enumerate(Path(__file__).read_text().splitlines())
        if "raise ArithmeticError(f" in text
    )
    assert f'File "{__file__}", line {line}, in diverge' in message
    assert 'raise ArithmeticError(f"no convergence with step {step}")' in message
    assert "runner" not in message
    [directory] = left_behind(anywhere)
    with anywhere.open() as system:
        assert [file.permissions[3:] for file in system.ls(f"{anywhere.workdir}/.crestline/functions")] == ["------"]
        assert f"{directory}/call.py" in system.glob(f"{directory}/*")


@pytest.mark.parametrize("anywhere", ["local"], indirect=True)
def test_a_python_that_is_not_there(anywhere: Place, task_log: Any) -> None:
    with DAG("no_python", schedule=None) as dag:
        task.firecrest(python="/no/such/python", system=anywhere.system, working_dir=anywhere.workdir)(nothing)()
    assert run(dag).states == {"nothing": "failed"}
    assert "exit code 127" in task_log.errors[-1]
    assert any("/no/such/python" in line for line in task_log.lines("decorators"))


@pytest.mark.parametrize("anywhere", ["local"], indirect=True)
def test_a_function_that_ends_python(anywhere: Place, task_log: Any) -> None:
    with DAG("leaves", schedule=None) as dag:

        @task.firecrest(python=anywhere.python, system=anywhere.system, working_dir=anywhere.workdir)
        def leave() -> None:
            import os

            os._exit(0)

        leave()
    assert run(dag).states == {"leave": "failed"}
    assert "has left no outcome" in task_log.errors[-1]


@pytest.mark.parametrize("anywhere", ["local"], indirect=True)
def test_a_kill_cancels_the_job(anywhere: Place, task_log: Any) -> None:
    with DAG("killed_function", schedule=None) as dag:

        @task.firecrest(python=anywhere.python, system=anywhere.system, working_dir=anywhere.workdir)
        def sleep() -> None:
            import time

            print("sleeping", flush=True)
            time.sleep(600)

        sleep()
    task_log.when("sleeping", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(dag).states == {"sleep": "failed"}
    with anywhere.open() as system:
        [job] = [job for job in system.jobs() if job.workdir == anywhere.workdir]
        assert job.state == "cancelled"


@pytest.mark.parametrize("anywhere", ["plain"], indirect=True)
def test_a_lost_answer_is_one_call(anywhere: Place, task_log: Any) -> None:
    with DAG("lost_answer", schedule=None) as dag:

        @task.firecrest(python=anywhere.python, system=anywhere.system, working_dir=anywhere.workdir)
        def count() -> int:
            with open("calls", "a") as file:
                file.write("x")
            return 1

        count()
    anywhere.plain.faults.fail(500, path="/jobs", method="POST", when="after")
    done = run(dag)
    assert done.states == {"count": "success"}, task_log.errors
    assert len(anywhere.plain.jobs()) == 1
    assert Path(anywhere.workdir, "calls").read_text() == "x"


def test_a_retry_calls_anew(anywhere: Place, task_log: Any) -> None:
    with DAG(f"again_{anywhere.kind}", schedule=None) as dag:

        @task.firecrest(
            system=anywhere.system,
            python=anywhere.python,
            working_dir=anywhere.workdir,
            retries=1,
            retry_delay=timedelta(0),
        )
        def stumble(attempt: str) -> str:
            import os

            if not os.path.exists("tried"):
                open("tried", "w").close()
                raise RuntimeError("the first time")
            return f"done, given {attempt}"

        stumble("{{ ti.try_number }}")
    done = run(dag)
    assert done.states == {"stumble": "success"}, task_log.errors
    assert done.xcom("stumble") == "done, given 2"


def nothing() -> None:
    """A function of a module."""


def greedy(ti: Any = None) -> None:
    """Wants what cannot travel."""


def test_what_a_dag_file_says_wrong() -> None:
    around = 3

    def closed() -> int:
        return around

    with DAG("wrong", schedule=None):
        with pytest.raises(TypeError, match="takes no array"):
            task.firecrest(array="0-3")(nothing)()
        with pytest.raises(TypeError, match="asks for ti, which cannot travel"):
            task.firecrest(greedy)()
        with pytest.raises(InvalidRequestError, match="it uses around of the function around it") as caught:
            task.firecrest(closed)()
        assert "pass the rest as arguments" in str(caught.value)
