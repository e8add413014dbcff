"""Upload and download operators on a gateway of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from crestline.client.backends.firecrest.content_calls import ContentCalls
from crestline.model import InvalidRequestError, TransferError
from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTSubmitOperator, FirecRESTUploadOperator
from crestline_airflow.operators.download import local_targets
from crestline_airflow.operators.progress import TransferLog
from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import again, run
from harness.gateway import RunningGateway

__all__ = ["anywhere"]


@pytest.fixture
def remote(gateway: RunningGateway, define: Any, tmp_path: Path) -> Path:
    """A directory on the system, one for each test."""
    define(gateway)
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def test_upload_of_files_and_directories(remote: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/a file, ∆.txt").write_text("content")
    with DAG("uploads", schedule=None) as dag:
        for task_id, target in (("named", "made/other.txt"), ("into", "made/"), ("there", ".")):
            FirecRESTUploadOperator(
                task_id=task_id,
                system="local",
                source_path=str(tree / "deep/a file, ∆.txt"),
                target_path=f"{remote}/{target}",
            )
        FirecRESTUploadOperator(task_id="tree", system="local", source_path=str(tree), target_path=f"{remote}/copy")
        dag.task_dict["into"] >> dag.task_dict["named"]
    done = run(dag)
    assert set(done.states.values()) == {"success"}
    assert done.xcom("named") == f"{remote}/made/other.txt"
    for file in ("made/other.txt", "made/a file, ∆.txt", "a file, ∆.txt", "copy/deep/a file, ∆.txt"):
        assert (remote / file).read_text() == "content"


def test_what_is_not_there_fails(remote: Path, tmp_path: Path, task_log: Any) -> None:
    with DAG("absent", schedule=None) as dag:
        FirecRESTUploadOperator(
            task_id="up", system="local", source_path=str(tmp_path / "nosuch.cif"), target_path=f"{remote}/"
        )
        FirecRESTDownloadOperator(
            task_id="down", system="local", remote_files=f"{remote}/nosuch.out", local_path=str(tmp_path / "out")
        )
    assert run(dag).states == {"up": "failed", "down": "failed"}
    assert "nosuch.cif" in "".join(task_log.errors)
    assert "nosuch.out" in "".join(task_log.errors)
    assert not (tmp_path / "out").exists()


def test_the_output_of_a_job(remote: Path, tmp_path: Path) -> None:
    local = tmp_path / "new/results"
    script = "#!/bin/bash\nmkdir a b\necho 1 > a/out; echo 2 > b/out; echo log\n"
    with DAG("output", schedule=None) as dag:
        job = FirecRESTSubmitOperator(task_id="job", system="local", script=script, working_dir=str(remote))
        job >> FirecRESTDownloadOperator(
            task_id="several",
            system="local",
            target_task_id="job",
            remote_files=["slurm-{_jobid_}.out", "slurm-{job_id}.out", "a/out", f"{remote}/b/out"],
            local_path=str(local),
        )
        job >> FirecRESTDownloadOperator(
            task_id="one", system="local", target_task_id="job", remote_files="a/out", local_path=str(tmp_path / "a1")
        )
        job >> FirecRESTDownloadOperator(
            task_id="log", system="local", target_task_id="job", local_path=str(tmp_path / "job.log")
        )
    done = run(dag)
    assert set(done.states.values()) == {"success"}
    log = local / f"slurm-{done.xcom('job')['job_id']}.out"
    assert [path.read_text() for path in (log, local / "a/out", local / "b/out")] == ["log\n", "1\n", "2\n"]
    assert done.xcom("several") == [str(log), str(local / "a/out"), str(local / "b/out")]
    assert (tmp_path / "a1").read_text() == "1\n"
    assert (tmp_path / "job.log").read_text() == "log\n"


def test_a_task_that_left_no_job(remote: Path, tmp_path: Path, task_log: Any) -> None:
    with DAG("nojob", schedule=None) as dag:
        up = FirecRESTUploadOperator(task_id="up", system="local", source_path=__file__, target_path=f"{remote}/")
        up >> FirecRESTDownloadOperator(
            task_id="down", system="local", target_task_id="up", local_path=str(tmp_path / "out")
        )
    assert run(dag).states == {"up": "success", "down": "failed"}
    assert "'up' has left no job" in task_log.errors[-1]


def test_lists_and_patterns_travel_both_ways(anywhere: Place, tmp_path: Path, task_log: Any) -> None:
    """What is called the same keeps its directory, and no file replaces another."""
    local = tmp_path / "in"
    for name in ("1/out.txt", "2/out.txt", "2/deep/more.txt", "a[1].txt", "a1.txt"):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_text(name)
    there = anywhere.workdir
    back = tmp_path / "back"
    with DAG(f"both_ways_{anywhere.kind}", schedule=None) as dag:
        up = FirecRESTUploadOperator(
            task_id="up",
            system=anywhere.system,
            source_path=[f"{local}/[12]/out.txt", f"{local}/2/deep"],
            target_path=f"{there}/all",
        )
        brackets = FirecRESTUploadOperator(
            task_id="brackets", system=anywhere.system, source_path=f"{local}/a[1].txt", target_path=f"{there}/"
        )
        pattern = FirecRESTUploadOperator(
            task_id="pattern", system=anywhere.system, source_path=f"{local}/a*.txt", target_path=f"{there}/as"
        )
        down = FirecRESTDownloadOperator(
            task_id="down",
            system=anywhere.system,
            remote_files=[f"{there}/all/*/out.txt", f"{there}/all/2/deep"],
            local_path=str(back),
        )
        again = FirecRESTDownloadOperator(
            task_id="again", system=anywhere.system, remote_files=f"{there}/as/a*.txt", local_path=str(back / "as")
        )
        [up, brackets, pattern] >> down >> again
    done = run(dag)
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert done.xcom("up") == [f"{there}/all/{name}" for name in ("1/out.txt", "2/out.txt", "2/deep")]
    assert done.xcom("brackets") == f"{there}/"
    with anywhere.open() as system:
        assert system.read_text(f"{there}/a[1].txt") == "a[1].txt"
    assert sorted(done.xcom("down")) == [str(back / name) for name in ("1/out.txt", "2/deep", "2/out.txt")]
    assert sorted(done.xcom("again")) == [str(back / "as" / name) for name in ("a1.txt", "a[1].txt")]
    for name in ("1/out.txt", "2/out.txt", "2/deep/more.txt"):
        assert (back / name).read_text() == name
    for name in ("a[1].txt", "a1.txt"):
        assert (back / "as" / name).read_text() == name


def test_large_files_wait_for_no_job_on_a_worker(anywhere: Place, tmp_path: Path, task_log: Any) -> None:
    """A plain FirecREST moves them in jobs of its scheduler; a gateway of ours has none to wait for."""
    content = os.urandom(6 * 1024 * 1024)
    (tmp_path / "large.bin").write_bytes(content)
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/large.bin").write_bytes(content)
    (tmp_path / "tree/small.txt").write_text("small")
    with DAG("large", schedule=None) as dag:
        up = FirecRESTUploadOperator(
            task_id="up", source_path=str(tmp_path / "large.bin"), target_path=f"{anywhere.workdir}/", deferrable=True
        )
        down = FirecRESTDownloadOperator(
            task_id="down",
            remote_files=f"{anywhere.workdir}/*.bin",
            local_path=str(tmp_path / "back"),
            deferrable=True,
        )
        up_tree = FirecRESTUploadOperator(
            task_id="up_tree",
            source_path=str(tmp_path / "tree"),
            target_path=f"{anywhere.workdir}/tree",
            deferrable=True,
        )
        down_tree = FirecRESTDownloadOperator(
            task_id="down_tree",
            remote_files=f"{anywhere.workdir}/tree",
            local_path=str(tmp_path / "back/tree"),
            deferrable=True,
        )
        up >> down >> up_tree >> down_tree
    done = run(dag)
    assert set(done.states.values()) == {"success"}, task_log.errors
    assert (tmp_path / "back/large.bin").read_bytes() == content
    assert (tmp_path / "back/tree/deep/large.bin").read_bytes() == content
    assert (tmp_path / "back/tree/small.txt").read_text() == "small"
    assert sorted(os.listdir(tmp_path / "back")) == ["large.bin", "tree"]
    deferred = sum("Waiting for the transfer jobs" in line for _, line in task_log.entries)
    if anywhere.plain is None:
        assert deferred == 0
    else:
        assert deferred == 4
        assert [anywhere.plain.count("POST", f"/transfer/{verb}") for verb in ("upload", "download")] == [2, 2]


def test_nothing_that_matches_fails(remote: Path, tmp_path: Path, task_log: Any) -> None:
    with DAG("no_match", schedule=None) as dag:
        FirecRESTUploadOperator(
            task_id="up", system="local", source_path=f"{tmp_path}/*.nosuch", target_path=f"{remote}/"
        )
        FirecRESTDownloadOperator(
            task_id="down", system="local", remote_files=f"{remote}/*.none", local_path=str(tmp_path / "out")
        )
    assert run(dag).states == {"up": "failed", "down": "failed"}
    assert f"{tmp_path}/*.nosuch does not exist on this worker" in "".join(task_log.errors)
    assert f"Nothing matches {remote}/*.none" in "".join(task_log.errors)


@pytest.mark.parametrize("anywhere", ["local"], indirect=True)
def test_an_upload_that_was_cut_off_goes_on_in_the_next_try(
    anywhere: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks for good in the first try; the second one sends the rest alone."""
    monkeypatch.setattr("crestline.client.files.upload_file.PART", 1024 * 1024)
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(3 * 1024 * 1024))
    with DAG("cut_off", schedule=None) as dag:
        FirecRESTUploadOperator(
            task_id="up", system=anywhere.system, source_path=str(source), target_path=f"{anywhere.workdir}/large.bin"
        )
    sent: list[int] = []
    whole = ContentCalls.upload_part

    async def cut(self: Any, path: str, upload_id: str, offset: int, *args: Any, **options: Any) -> int:
        if sent:
            raise TransferError("the worker is lost")
        sent.append(await whole(self, path, upload_id, offset, *args, **options))
        return sent[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContentCalls, "upload_part", cut)
        patch.setattr("crestline.client.files.backoff.Backoff.wait", _give_up)
        assert run(dag).states == {"up": "failed"}
    assert not Path(anywhere.workdir, "large.bin").exists()
    offsets: list[int] = []

    async def watched(self: Any, path: str, upload_id: str, offset: int, *args: Any, **options: Any) -> int:
        offsets.append(offset)
        return await whole(self, path, upload_id, offset, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContentCalls, "upload_part", watched)
        assert again(dag).states == {"up": "success"}
    assert offsets[0] == sent[0] > 0
    assert Path(anywhere.workdir, "large.bin").read_bytes() == source.read_bytes()


async def _give_up(self: Any, error: Exception) -> None:
    raise error


def test_how_far_a_long_transfer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("crestline_airflow.operators.progress.time.monotonic", lambda: now[0])
    lines: list[str] = []
    log = TransferLog(lines.append, "Sending x")
    for now[0], done in ((1.0, 10**6), (31.0, 5 * 10**8), (32.0, 6 * 10**8)):
        log(done, 10**9, "x")
    assert lines == ["Sending x: 500 of 1000 MB, at x"]


def test_where_files_go(tmp_path: Path) -> None:
    assert local_targets(["/w/a"], f"{tmp_path}/x") == {"/w/a": tmp_path / "x"}
    assert local_targets(["/w/a"], f"{tmp_path}/x/") == {"/w/a": tmp_path / "x/a"}
    assert local_targets(["/w/a"], str(tmp_path)) == {"/w/a": tmp_path / "a"}
    assert local_targets(["/w/a", "/w/./a", "/v/b"], f"{tmp_path}/x") == {
        "/w/a": tmp_path / "x/a",
        "/v/b": tmp_path / "x/b",
    }
    assert local_targets(["/w/1/out", "/w/2/out", "/w/2/log"], f"{tmp_path}/x") == {
        "/w/1/out": tmp_path / "x/1/out",
        "/w/2/out": tmp_path / "x/2/out",
        "/w/2/log": tmp_path / "x/2/log",
    }


def test_files_that_fit_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequestError, match="is a file"):
        local_targets(["/a", "/b"], f"{tmp_path}/file")
    with pytest.raises(InvalidRequestError, match="Nothing"):
        local_targets([], f"{tmp_path}/file")
