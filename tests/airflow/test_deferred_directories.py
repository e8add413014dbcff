"""Directories that a plain FirecREST packs and unpacks in jobs: no worker waits for these, and none is left behind."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferralTimeout, TaskDeferred

from crestline.model import FileMissingError
from crestline.testing.firecrest import PlainFirecrest, running
from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTUploadOperator
from crestline_airflow.operators.transfer import FirecRESTTransferOperator
from harness import triggerer
from harness.airflow_dags import run
from harness.waiting import until

LIMIT = 40_000
"""of one operation, in bytes"""


@pytest.fixture
def plain(define: Any) -> Iterator[PlainFirecrest]:
    """Packing and unpacking takes longer than a request may."""
    with running(max_ops_file_size=LIMIT) as plain:
        for verb in ("compress", "extract"):
            plain.faults.fail(408, path=f"/ops/{verb}", count=None)
        define(plain)
        yield plain


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, bytes]:
    """The files of the directory `in`, more than would travel one by one."""
    files = {f"{number}.bin": random.Random(number).randbytes(10_000) for number in range(12)}
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    return files


def files_in(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name != ".crestline-manifest.json"}


def transfers(plain: PlainFirecrest) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in plain.requests if "/transfer/" in seen.path]


def uploading(plain: PlainFirecrest, tmp_path: Path) -> FirecRESTUploadOperator:
    return FirecRESTUploadOperator(
        task_id="up", source_path=str(tmp_path / "in"), target_path=f"{plain.home}/there", deferrable=True
    )


def downloading(plain: PlainFirecrest, tmp_path: Path, *more: str) -> FirecRESTDownloadOperator:
    paths = [f"{plain.home}/there", *more]
    return FirecRESTDownloadOperator(
        task_id="down", remote_files=paths, local_path=f"{tmp_path}/back/", deferrable=True
    )


def on_a_worker(operator: FirecRESTTransferOperator, deferred: TaskDeferred | None = None) -> Any:
    """What a worker does with the task, first or after a deferral: the result, or how it is deferred."""
    stored: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="d",
        task_id=operator.task_id,
        run_id="r",
        map_index=-1,
        xcom_push=lambda key, value: stored.update({key: value}),
        xcom_pull=lambda key, **_: stored.get(key),
    )
    context: Any = {"ti": ti}
    try:
        if deferred is None:
            return type(operator).execute.__wrapped__(operator, context)  # type: ignore[attr-defined]
        return operator.execute_complete(context, {}, **(deferred.kwargs or {}))
    except TaskDeferred as again:
        again.context = context  # type: ignore[attr-defined]
        return again


def test_directories_in_a_dag(plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path, task_log: Any) -> None:
    with DAG("directories", schedule=None) as dag:
        uploading(plain, tmp_path) >> downloading(plain, tmp_path)
    assert set(run(dag).states.values()) == {"success"}, task_log.errors
    assert files_in(plain.home / "there") == files_in(tmp_path / "back/there") == tree
    assert transfers(plain) == ["upload", "extract", "compress", "download"]
    assert sum("Waiting for the transfer jobs" in line for _, line in task_log.entries) == 4
    assert not list(plain.home.glob(".crestline-*"))


def test_no_worker_waits_and_the_next_try_goes_on(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path
) -> None:
    """No job ever starts while a worker is at work; and every worker is lost with what it knows."""
    operators = [uploading(plain, tmp_path), downloading(plain, tmp_path)]
    for make, verbs in zip(operators, (["upload", "extract"], ["compress", "download"]), strict=True):
        deferred = None
        for number in range(2):
            plain.settings.transfer_slots = 0
            on_a_worker(make, deferred)
            deferred = on_a_worker(make, deferred)  # the next try
            assert isinstance(deferred, TaskDeferred)
            assert deferred.trigger.job_ids == [plain.jobs()[-1].id]
            assert transfers(plain) == verbs[: number + 1]
            plain.settings.transfer_slots = 4
            with make.hook.get_conn() as system:
                system.wait(deferred.trigger.job_ids[0])
        assert not isinstance(on_a_worker(make, deferred), TaskDeferred)
        plain.requests.clear()
    assert files_in(plain.home / "there") == files_in(tmp_path / "back/there") == tree


def test_the_last_deferral_ends_with_a_worker_that_waits(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path
) -> None:
    operator = uploading(plain, tmp_path)
    deferred = TaskDeferred(trigger=None, method_name="execute_complete", kwargs={"deferrals": 4})  # type: ignore[arg-type]
    assert on_a_worker(operator, deferred) == f"{plain.home}/there"
    assert files_in(plain.home / "there") == tree


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.anyio
async def test_a_kill_leaves_neither_job_nor_archive(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path, direction: str
) -> None:
    from anyio.to_thread import run_sync

    there = plain.home / "there"
    if direction == "up":
        deferred = await run_sync(on_a_worker, uploading(plain, tmp_path))
        await until(lambda: plain.jobs()[-1].is_over)
        plain.settings.transfer_slots = 0
        deferred = await run_sync(on_a_worker, uploading(plain, tmp_path), deferred)
        temporary = there
    else:
        (tmp_path / "in").rename(there)
        plain.settings.transfer_slots = 0
        deferred = await run_sync(on_a_worker, downloading(plain, tmp_path))
        temporary = plain.home
    assert list(temporary.glob(".crestline-*"))
    async with triggerer.running() as at_work:
        number = at_work.add(deferred.trigger)
        await until(lambda: at_work.waiting == 1)
        at_work.supervisor.state = "failed"
        at_work.cancel(number)
        await until(lambda: at_work.waiting == 0)
        await until(lambda: plain.jobs()[-1].state.startswith("CANCELLED"))
        await until(lambda: not list(temporary.glob(".crestline-*")))
    assert not at_work.failed


def test_a_deferral_that_times_out_leaves_neither_job_nor_archive(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").rename(plain.home / "there")
    plain.settings.transfer_slots = 0
    operator = downloading(plain, tmp_path)
    deferred = on_a_worker(operator)
    assert list(plain.home.glob(".crestline-*"))
    with pytest.raises(TaskDeferralTimeout):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, deferred.context)
    assert plain.jobs()[-1].state.startswith("CANCELLED")
    assert not list(plain.home.glob(".crestline-*"))


def test_all_deferrals_share_one_execution_timeout(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").rename(plain.home / "there")
    hour = timedelta(hours=1)
    operator = downloading(plain, tmp_path)
    operator.execution_timeout = hour

    def deferred_once_more(before: TaskDeferred | None) -> TaskDeferred:
        plain.settings.transfer_slots = 0
        deferred = on_a_worker(operator, before)
        assert isinstance(deferred, TaskDeferred)
        return deferred

    first = deferred_once_more(None)
    assert timedelta(0) < first.timeout <= hour
    plain.settings.transfer_slots = 4
    with operator.hook.get_conn() as system:
        system.wait(first.trigger.job_ids[0])
    first.kwargs["deadline"] -= 1800  # the job took half an hour
    second = deferred_once_more(first)
    assert timedelta(0) < second.timeout <= hour / 2
    second.kwargs["deadline"] -= 1800
    with pytest.raises(TaskDeferralTimeout, match="execution_timeout"):
        on_a_worker(operator, second)
    assert plain.jobs()[-1].state.startswith("CANCELLED")
    assert not list(plain.home.glob(".crestline-*"))


def test_a_transfer_that_fails_takes_along_those_before_it(
    plain: PlainFirecrest, tree: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").rename(plain.home / "there")
    plain.settings.transfer_slots = 0
    operator = downloading(plain, tmp_path, f"{plain.home}/nosuch")
    with pytest.raises(FileMissingError):
        on_a_worker(operator)
    assert plain.jobs()[-1].state.startswith("CANCELLED")
    assert sorted(os.listdir(plain.home)) == ["there"]
