"""What stays behind, and what is missing, never costs a job its results: paths, directories, locks, late output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crestline.client import System, connect_blocking
from crestline.model import Job, JobState
from crestline.private_files import locked
from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline_gitlab_runner import allocation
from crestline_gitlab_runner.allocation import Allocation
from crestline_gitlab_runner.ci_job import CiJob as CiJobOfRunner
from crestline_gitlab_runner.command_channel import Ended
from crestline_gitlab_runner.failures import RunnerGoneError
from crestline_gitlab_runner.runner_process import identify
from crestline_gitlab_runner.settings import load_settings
from crestline_gitlab_runner.stages import Stages
from crestline_gitlab_runner.state import State
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite


def _names(gitlab: GitLab, job: CiJob) -> list[str]:
    with zipfile.ZipFile(BytesIO(gitlab.artifacts[job.id])) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


@pytest.mark.parametrize("version", ["14.7.0", "19.3.0"])
def test_what_is_missing_is_a_warning(site: DriverSite, gitlab: GitLab, version: str) -> None:
    """A report, an artifact and a cache that are not there; variables and escaped brackets in paths."""
    job = CiJob(
        script=["mkdir 'out [1]' nodir; echo a >'out [1]/a.txt'; echo b >b.txt"],
        variables={"OUT_DIR": "out [1]"},
        artifacts=[
            {"paths": ["missing.txt", r"out \[1\]/*.txt", "$UNSET/", "b.txt", "../x", "{", "/etc/*.toml"]},
            {"paths": ["junit.xml"], "artifact_type": "junit", "artifact_format": "gzip"},
            {"paths": ["/", "{ }", "../*"], "artifact_type": "sast"},
        ],
        cache=[{"key": "cold", "paths": [".cache"]}],
    )
    build = site.run(gitlab, job, version=version)
    assert build.state == "success", build.text
    assert _names(gitlab, job) == ["b.txt", "out [1]/a.txt"]
    assert "WARNING: missing.txt: no matching files\n" in build.text
    assert "WARNING: junit.xml: no matching files\n" in build.text
    assert "/etc/os-release" not in build.text
    assert [query for number, query, _, _ in gitlab.uploads if number == job.id and "junit" in query] == []


def test_a_script_that_removes_its_project(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(
        script=['cd ..; rm -rf "$CI_PROJECT_DIR"'], artifacts=[{"paths": ["out"]}], cache=[{"key": "k", "paths": ["c"]}]
    )
    build = site.run(gitlab, job)
    assert build.state == "success", build.text
    assert "the project directory is gone" in build.text


@pytest.mark.parametrize("get_sources", ["host", "job"])
def test_caches_arrive_wherever_sources_are_fetched(make_site: MakeSite, gitlab: GitLab, get_sources: str) -> None:
    site = make_site("gateway", stages={"get_sources": get_sources})
    cache = [{"key": "k", "paths": ["c"]}]
    first = CiJob(script=["mkdir c; echo cached >c/f"], cache=cache, artifacts=[{"paths": ["c"]}])
    assert site.run(gitlab, first).state == "success"
    build = site.run(gitlab, CiJob(script=["cat c/f README.md"], cache=cache, dependencies=[first]))
    assert "cached\nhello\n" in build.text, build.text


def test_read_only_directories_are_removed(make_site: MakeSite, gitlab: GitLab) -> None:
    """On Slurm, where jobs are not root's."""
    site = make_site("slurm")
    job = CiJob(script=["mkdir -p go/mod/x; echo y >go/mod/x/f; chmod -R a-w go"])
    build = site.run(gitlab, job)
    assert build.state == "success", build.text
    with connect_blocking(site.client_site) as system:
        root = f"{system.default_workdir()}/.crestline-ci/driver"
        assert not [entry.name for entry in system.ls(root) if f"-{job.id}-" in entry.name]
    assert site.left_behind() == []


def test_a_root_that_cannot_be_leaves_nothing_for_ever(make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", workspace={"root": "/proc/no/such/root"})
    build = site.run(gitlab, CiJob(script=["true"]))
    assert build.reason == "runner_system_failure"
    assert site.left_behind() == [], build.text


def test_locks_of_shared_allocations_go_with_them(site: DriverSite, gitlab: GitLab) -> None:
    shared = {"CRESTLINE_ALLOC": "a", "CRESTLINE_ALLOC_RELEASE": "true"}
    assert site.run(gitlab, CiJob(script=["true"], variables=shared)).state == "success"
    assert not [path.name for path in site.state.rglob(".alloc-*")]


def test_a_lock_that_was_removed_while_others_waited_for_it(tmp_path: Any) -> None:
    file = tmp_path / "lock"
    inside: list[str] = []

    def work(name: str) -> None:
        with locked(file):
            inside.append(name)
            assert len(inside) == 1
            inside.remove(name)
            file.unlink()  # from here on another may enter, by a file of its own

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []


def test_a_runner_that_is_killed_during_a_slow_fetch(make_site: MakeSite, gitlab: GitLab) -> None:
    """The allocation ends while git still waits for its server."""
    site = make_site("gateway", recovery={"heartbeat_ttl": "60m"})
    site.custom.run = ["sh", "-c", '"$@"; exit $?', "sh", *site.custom.run]
    job = CiJob(script=["true"])
    gitlab.answers_clones.clear()
    gitlab.is_asked.clear()  # earlier jobs have asked, too
    try:
        with site.start(gitlab, job) as build:
            pid = build.wait_for_stage("get_sources")
            assert gitlab.is_asked.wait(120)
            build.kill_runner()
            os.kill(pid, signal.SIGKILL)
            with connect_blocking(site.client_site) as system:
                (only,) = [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]
                assert system.wait(only, timeout=120).state == "cancelled"
            assert not gitlab.answers_clones.is_set()
    finally:
        gitlab.answers_clones.set()


@pytest.mark.parametrize("noted", ["runs", "has ended", "was not the runner"])
def test_a_runner_that_died_before_the_stage_asked_for_its_parent(noted: str, tmp_path: Path) -> None:
    """The stage's parent is then the process that took it over; what `config` has noted tells."""
    (tmp_path / "driver.toml").write_text('[gateway]\nurl = "https://gateway.invalid"\nsystem = "lab"\n')
    (tmp_path / "script").touch()

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        yield SimpleNamespace(max_direct_size=1)

    runner = subprocess.Popen(["sleep", "600"])
    try:
        state = State.create(tmp_path / "job", ci_job=1, root="/r", runner=identify(runner.pid))
        stages = Stages(load_settings(tmp_path / "driver.toml"), cast(CiJobOfRunner, None), state, connect)
        if noted != "runs":
            runner.kill()
            os.waitid(os.P_PID, runner.pid, os.WEXITED | os.WNOWAIT)  # no process has taken its exit code yet
        if noted == "was not the runner":
            state.record.runner = ""  # `prepare` found it gone although the job goes on
        ending = pytest.raises(RunnerGoneError) if noted == "has ended" else contextlib.nullcontext()
        with ending:
            asyncio.run(stages.run("prepare_script", tmp_path / "script", os.getppid()))
    finally:
        runner.kill()
        runner.wait()


@pytest.mark.anyio
async def test_output_that_still_arrives_is_waited_for(site: DriverSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has ended, and its last pieces take many times as long as one may be late."""
    monkeypatch.setattr(allocation, "_SETTLE", 0.05)
    ended = SimpleNamespace(state=JobState.COMPLETED, job=Job(job_id="1", state=JobState.COMPLETED))

    class Quick:
        backend = SimpleNamespace(max_direct_upload=1, max_direct_download=1)

        async def watch(self, job_id: str) -> Any:
            yield ended

    state = State.create(site.state / "job-x", ci_job=1, root="/r")
    state.record.job_id = "1"
    subject = Allocation(cast(System, Quick()), load_settings(site.file), state)

    async def follow(name: str, write: Any) -> Ended:
        for _ in range(30):
            await asyncio.sleep(0.03)
            subject.mailbox.received += 1
        return Ended(0, "own")

    monkeypatch.setattr(subject.mailbox, "follow", follow)
    monkeypatch.setattr(subject, "beat_on", lambda: asyncio.sleep(60))

    async def send() -> None:
        return

    assert await subject.run("x", send, started=False) == Ended(0, "own")
    assert subject.mailbox.received == 30
