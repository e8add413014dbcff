"""The submit operator on a gateway of ours, with the local scheduler."""

from __future__ import annotations

import os
import re
import signal
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline_airflow.failures import FirecRESTRetryPolicy
from crestline_airflow.operators import FirecRESTSubmitOperator
from harness.airflow_dags import run
from harness.gateway import RunningGateway
from harness.waiting import until_blocking


@pytest.fixture
def workdir(gateway: RunningGateway, tmp_path: Path) -> Path:
    """A directory of the gateway's default file system, one for each test."""
    directory = gateway.home.resolve() / "files" / tmp_path.name
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def _connected(gateway: RunningGateway, define: Any) -> None:
    define(gateway)


def jobs_in(gateway: RunningGateway, workdir: Path) -> list[dict[str, Any]]:
    """What the gateway knows of jobs that ran there, once they have ended."""
    with gateway.http() as http:

        def listed() -> list[dict[str, Any]]:
            jobs = http.get("/compute/local/jobs").json()["jobs"] or []
            return [job for job in jobs if job["workingDirectory"] == str(workdir)]

        until_blocking(lambda: not {job["status"]["state"] for job in listed()} & {"PENDING", "RUNNING"})
        return listed()


def test_what_a_job_leaves(workdir: Path) -> None:
    with DAG("leaves", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\n#SBATCH --output=out-%j.txt\necho $WORD in $PWD for {{ dag.dag_id }}",
            working_dir=str(workdir),
            environment={"WORD": "done, {{ dag.dag_id }}"},
        )
    done = run(dag)
    assert done.states == {"job": "success"}
    job = done.xcom("job")
    times = job.pop("times")
    assert times["submit"] <= times["start"] <= times["end"]
    assert job.pop("node_hours") is not None
    assert job == {
        "job_id": job["job_id"],
        "system": "local",
        "state": "completed",
        "exit_code": 0,
        "working_dir": str(workdir),
        "stdout": f"{workdir}/out-{job['job_id']}.txt",
        "stderr": job["stderr"],
    }
    assert Path(job["stdout"]).read_text() == f"done, leaves in {workdir} for leaves\n"


def test_relative_and_absent_working_directories_are_the_users(gateway: RunningGateway, workdir: Path) -> None:
    script = "#!/bin/bash\npwd > where.txt\n"
    with DAG("where", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="absent", system="local", script=script)
        FirecRESTSubmitOperator(task_id="relative", system="local", script=script, working_dir="below/{{ dag.dag_id }}")
        with gateway.http() as http:
            user = http.get("/status/local/userinfo").json()["user"]["name"]
        default = gateway.home / "files" / user
        (default / "below/where").mkdir(parents=True, exist_ok=True)
    done = run(dag)
    assert set(done.states.values()) == {"success"}
    assert done.xcom("absent")["working_dir"] == str(default)
    assert done.xcom("relative")["working_dir"] == str(default / "below/where")
    assert (default / "below/where/where.txt").read_text().strip() == str(default / "below/where")


def test_a_script_beside_the_dag(workdir: Path, tmp_path: Path) -> None:
    (tmp_path / "job.sbatch").write_text("#!/bin/bash\necho {{ params.word }} > word.txt\n")
    with DAG("beside", schedule=None, params={"word": "rendered"}, template_searchpath=str(tmp_path)) as dag:
        FirecRESTSubmitOperator(task_id="job", system="local", script="job.sbatch", working_dir=str(workdir))
    assert run(dag).states == {"job": "success"}
    assert (workdir / "word.txt").read_text() == "rendered\n"


def test_a_script_that_ends_like_the_name_of_a_file(workdir: Path) -> None:
    (workdir / "run.sh").write_text("echo ran > ran.txt\n")
    with DAG("ends", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system="local", script="#!/bin/bash\nbash run.sh", working_dir=str(workdir)
        )
    assert run(dag).states == {"job": "success"}
    assert (workdir / "ran.txt").read_text() == "ran\n"


def test_the_output_is_in_the_task_log_while_the_job_runs(workdir: Path, task_log: Any) -> None:
    """The job ends only when its first line has been seen."""
    with DAG("live", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\necho first line\nuntil [ -e go ]; do sleep 0.1; done\necho 'last ∆'\nprintf unended",
            working_dir=str(workdir),
        )
    task_log.when("first line", lambda: (workdir / "go").touch())
    assert run(dag).states == {"job": "success"}
    lines = task_log.lines("submit")
    assert [lines.count(line) for line in ("first line", "last ∆", "unended")] == [1, 1, 1]


def test_a_failed_job_fails_the_task_and_says_why(workdir: Path, task_log: Any) -> None:
    with DAG("fails", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script=(
                "#!/bin/bash\n#SBATCH --error=problems.txt\n"
                "seq 100 | sed 's/^/warning /' >&2\necho 'no such potential' >&2\nexit 3\n"
            ),
            working_dir=str(workdir),
        )
    assert run(dag).states == {"job": "failed"}
    message = task_log.errors[-1]
    lines = task_log.lines("submit")
    explained = lines[lines.index(message) :]
    assert re.fullmatch(r"Job \d+ failed with exit code 3\.", message)
    assert explained[1] == f"The last lines of {workdir}/problems.txt:"
    assert explained[2:] == [*(f"    warning {number}" for number in range(82, 101)), "    no such potential"]


def test_stderr_within_stdout(workdir: Path, task_log: Any) -> None:
    with DAG("merged", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\n#SBATCH --output=all.txt\necho out\necho err >&2\nexit 4\n",
            working_dir=str(workdir),
        )
    assert run(dag).states == {"job": "failed"}
    lines = task_log.lines("submit")
    assert [lines.count(line) for line in ("out", "err")] == [1, 1]  # the output has it
    assert lines[-1] == task_log.errors[-1]
    assert "exit code 4" in lines[-1]


def test_without_the_output_its_end_is_in_the_explanation(workdir: Path, task_log: Any) -> None:
    with DAG("unlogged", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\n#SBATCH --output=all.txt\necho out\nexit 4\n",
            working_dir=str(workdir),
            log_output=False,
        )
    assert run(dag).states == {"job": "failed"}
    assert task_log.lines("submit")[-2:] == [f"The last lines of {workdir}/all.txt:", "    out"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_exception_of_a_failed_job_is_short(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    raised: list[BaseException] = []

    class Policy(FirecRESTRetryPolicy):
        def evaluate(self, exception: BaseException, *args: Any, **options: Any) -> Any:
            raised.append(exception)
            return super().evaluate(exception, *args, **options)

    with DAG(f"short_{deferrable}", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\nexit 4\n",
            working_dir=str(workdir),
            deferrable=deferrable,
            retry_policy=Policy(),
        )
    assert run(dag).states == {"job": "failed"}
    [error] = raised
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "crestline_airflow" in frame.filename]
    assert ours == ["resume_execution" if deferrable else "execute", "__exit__"]
    assert (error.__cause__, error.__suppress_context__) == (None, True)


def test_a_script_without_interpreter_is_refused(gateway: RunningGateway, workdir: Path, task_log: Any) -> None:
    with DAG("refused", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", system="local", script="echo hello", working_dir=str(workdir))
    assert run(dag).states == {"job": "failed"}
    assert "#!" in task_log.errors[-1]
    assert not jobs_in(gateway, workdir)


def test_a_retry_is_a_new_job(gateway: RunningGateway, workdir: Path) -> None:
    with DAG("retry", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\n[ -e again ] || { touch again; exit 1; }\n",
            working_dir=str(workdir),
            retries=1,
            retry_delay=timedelta(0),
        )
    done = run(dag)
    assert done.states == {"job": "success"}
    jobs = jobs_in(gateway, workdir)
    assert sorted(job["status"]["state"] for job in jobs) == ["COMPLETED", "FAILED"]
    [completed] = [str(job["jobId"]) for job in jobs if job["status"]["state"] == "COMPLETED"]
    assert done.xcom("job")["job_id"] == completed


def test_a_kill_cancels_the_job(gateway: RunningGateway, workdir: Path, task_log: Any) -> None:
    with DAG("kill", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job", system="local", script="#!/bin/bash\necho running up\nsleep 600\n", working_dir=str(workdir)
        )
    task_log.when("running up", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(dag).states == {"job": "failed"}
    [job] = jobs_in(gateway, workdir)
    assert job["status"]["state"].startswith("CANCELLED")


def test_running_out_of_time_cancels_the_job(gateway: RunningGateway, workdir: Path) -> None:
    with DAG("late", schedule=None) as dag:
        FirecRESTSubmitOperator(
            task_id="job",
            system="local",
            script="#!/bin/bash\nsleep 600\n",
            working_dir=str(workdir),
            execution_timeout=timedelta(seconds=8),
        )
    assert run(dag).states == {"job": "failed"}
    [job] = jobs_in(gateway, workdir)
    assert job["status"]["state"].startswith("CANCELLED")


def test_mapped_tasks_are_jobs_of_their_own(gateway: RunningGateway, workdir: Path) -> None:
    with DAG("mapped", schedule=None) as dag:
        FirecRESTSubmitOperator.partial(task_id="job", system="local", working_dir=str(workdir)).expand(
            script=[f"#!/bin/bash\necho {word} > {word}.txt\n" for word in ("one", "two", "three")]
        )
    assert set(run(dag).states.values()) == {"success"}
    assert {file.name for file in workdir.glob("[ot]*.txt")} == {"one.txt", "two.txt", "three.txt"}
    assert len(jobs_in(gateway, workdir)) == 3


def test_concurrent_runs_do_not_share_a_job(gateway: RunningGateway, workdir: Path) -> None:
    with DAG("twice", schedule=None) as dag:
        FirecRESTSubmitOperator(task_id="job", system="local", script="#!/bin/bash\ntrue\n", working_dir=str(workdir))
    assert run(dag).xcom("job")["job_id"] != run(dag).xcom("job")["job_id"]
    assert len(jobs_in(gateway, workdir)) == 2
