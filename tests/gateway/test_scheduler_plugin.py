"""The scheduler of "Write a scheduler plug-in" works: a gateway finds it by its entry point and runs jobs with it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.gateway import in_thread
from harness.page_blocks import ROOT
from harness.waiting import until_blocking

EXAMPLE = ROOT / "examples/scheduler_plugin"
JOBS = "/compute/laptop/jobs"


def state(http: httpx.Client, job_id: str) -> dict[str, Any]:
    answer = http.get(f"{JOBS}/{job_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["jobs"][0]
    return found["status"]


def test_the_example_runs_finds_and_cancels_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "at_once-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crestline-at-once\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in project["entry-points"]["crestline.schedulers"].items()]
    (info / "entry_points.txt").write_text("[crestline.schedulers]\n" + "".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    work = tmp_path / "work"
    work.mkdir()
    scheduler = {"type": "at-once", "directory": str(tmp_path / "jobs")}
    trees = [{"path": str(work), "default_work_dir": True}]
    with (
        in_thread(tmp_path / "home", systems={"laptop": {"scheduler": scheduler, "file_systems": trees}}) as gateway,
        gateway.http() as http,
    ):

        def submit(script: str, key: str) -> str:
            job = {"workingDirectory": str(work), "name": "a 'name'", "script": script, "env": {"WORD": "told"}}
            answer = http.post(JOBS, json={"job": job}, headers={"Idempotency-Key": key})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["jobId"])

        done = submit('#!/bin/sh\necho "$WORD"\nexit 3\n', "first")
        assert submit('#!/bin/sh\necho "$WORD"\nexit 3\n', "first") == done
        until_blocking(lambda: state(http, done)["state"] == "FAILED")
        assert state(http, done)["exitCode"] == 3
        assert (work / f"{done}.out").read_text() == "told\n"
        assert "exit 3" in http.get(f"{JOBS}/{done}/metadata").json()["jobs"][0]["script"]
        endless = submit("#!/bin/sh\nsleep 1000\n", "second")
        until_blocking(lambda: list((tmp_path / "jobs").rglob(f"{endless}/pid")))
        assert http.delete(f"{JOBS}/{endless}").status_code == 204
        assert state(http, endless)["state"] == "CANCELLED"
        assert [each["jobId"] for each in http.get(JOBS).json()["jobs"]] == [done, endless]
        assert http.get(f"{JOBS}/77").status_code == 404
