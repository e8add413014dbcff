"""Cancel, abort, time limits, and a runner that dies: nodes become free, and after_script runs where it should."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from crestline.client import connect_blocking
from crestline.model import Job, JobSpec
from crestline.testing.gitlab_runner import Build, CiJob, GitLab
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite

BACKENDS = ["gateway", "slurm", "plain"]


def _jobs(site: DriverSite, job: CiJob) -> list[Job]:
    with connect_blocking(site.client_site) as system:
        return [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]


def _ended(site: DriverSite, job: CiJob) -> list[Job]:
    """The scheduler's jobs of a CI job, once all have ended."""
    with connect_blocking(site.client_site) as system:
        return [system.wait(each, timeout=120) for each in _jobs(site, job)]


def _long(**options: object) -> CiJob:
    return CiJob(script=["echo it runs", "sleep 600 & wait"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancel_runs_after_script_in_the_same_allocation(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site(backend)
    job = _long(after_script=['echo "after: $CI_JOB_STATUS"'], artifacts=[{"paths": ["README.md"], "when": "always"}])
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        build.cancel()
        build.wait()
    assert build.state == "canceled", build.text
    assert "after: canceled\n" in build.text
    assert build.stages[-5:] == [
        *("build_script", "after_script", "upload_artifacts_on_failure", "cleanup_file_variables", "cleanup")
    ]
    assert job.id in gitlab.artifacts
    assert len(_ended(site, job)) == 1
    assert site.left_behind() == []


def test_cancel_without_after_script_ends_the_job_at_once(site: DriverSite, gitlab: GitLab) -> None:
    job = _long()
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        build.cancel()
        build.wait()
    stopped = next(call for call in build.calls if call.stage == "build_script")
    assert stopped.status == 1
    assert [each.state for each in _ended(site, job)] == ["cancelled"]


@pytest.mark.parametrize("backend", ["gateway", "slurm"])
def test_abort_goes_straight_to_cleanup(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site(backend)
    job = _long(after_script=["echo never"], artifacts=[{"paths": ["x"], "when": "always"}])
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        build.abort()
        build.wait()
    assert build.stages[-2:] == ["build_script", "cleanup"]
    assert "never" not in build.text
    assert [each.state for each in _ended(site, job)] == ["cancelled"]
    assert site.left_behind() == []


@pytest.mark.soak
def test_the_script_timeout_of_the_runner(site: DriverSite, gitlab: GitLab) -> None:
    job = _long(after_script=['echo "after: $CI_JOB_STATUS"'])
    build = site.run(gitlab, job, script_timeout=8)
    assert "after: timedout\n" in build.text, build.text


@pytest.mark.parametrize("stage", [pytest.param("prepare", marks=pytest.mark.soak), "get_sources"])
def test_abort_before_the_script(stage: str, site: DriverSite, gitlab: GitLab) -> None:
    job = _long()
    with site.start(gitlab, job) as build:
        build.wait_for_stage(stage)
        build.abort()
        build.wait()
    assert "build_script" not in build.stages
    assert build.stages[-1] == "cleanup"
    assert all(each.is_finished for each in _ended(site, job))


@pytest.mark.parametrize("backend", ["gateway", "plain", pytest.param("slurm", marks=pytest.mark.soak)])
def test_the_time_limit_of_the_job(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    limit = "00:01:00" if backend == "slurm" else "00:00:04"
    build = make_site(backend).run(gitlab, CiJob(script=["sleep 600"], variables={"SLURM_TIMELIMIT": limit}))
    assert (build.state, build.reason, build.exit_code) == ("failed", "script_failure", 124), build.text
    assert "reached its time limit" in build.text


def test_a_job_that_others_cancel(site: DriverSite, gitlab: GitLab) -> None:
    job = _long(after_script=["echo too late"])
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        with connect_blocking(site.client_site) as system:
            system.cancel(_jobs(site, job)[0])
        build.wait()
    assert (build.reason, build.exit_code) == ("script_failure", 143), build.text


def test_a_queued_job_that_is_cancelled(site: DriverSite, gitlab: GitLab) -> None:
    cpus = os.cpu_count() or 1
    with connect_blocking(site.client_site) as system:
        blocker = system.submit(JobSpec(script="#!/bin/sh\nsleep 600\n", cpus_per_task=cpus, name="blocker"))
        job = _long(after_script=["echo in vain"])
        with site.start(gitlab, job) as build:
            build.wait_for("pending")
            build.cancel()
            build.wait()
        assert build.state == "canceled", build.text
        assert [each.state for each in _ended(site, job)] == ["cancelled"]
        system.cancel(blocker)


def test_a_runner_that_is_killed_leaves_no_job(make_site: MakeSite, gitlab: GitLab) -> None:
    """The driver sees that its parent has gone, or the allocation that the heartbeat has stopped."""
    site = make_site("gateway", recovery={"heartbeat_ttl": "20s"})
    job = _long()
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        pid = build.wait_for_stage("build_script")
        build.kill_runner()
        os.killpg(pid, signal.SIGKILL)
        build.wait()
    (ended,) = _ended(site, job)
    assert (ended.state, ended.exit_code) == ("failed", 90)
    assert len(site.left_behind()) == 1


def test_gc_removes_what_a_killed_runner_left(make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", recovery={"heartbeat_ttl": "600s"})
    job = _long()
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        pid = build.wait_for_stage("build_script")
        build.kill_runner()
        os.killpg(pid, signal.SIGKILL)
        build.wait()
    gc = [*site.custom.cleanup[:2], "gc", "-c", str(site.file)]
    subprocess.run(gc, check=True)
    assert len(site.left_behind()) == 1, "its heartbeat is fresh"
    (record,) = site.state.glob("*/job-*/record.json")
    long_ago = time.time() - 3600
    os.utime(record, (long_ago, long_ago))
    subprocess.run(gc, check=True)
    assert site.left_behind() == []
    assert [each.state for each in _ended(site, job)] == ["cancelled"]
    with connect_blocking(site.client_site) as system:
        root = f"{system.default_workdir()}/.crestline-ci/driver"
        assert not [each for each in system.ls(root) if each.name.startswith(f"ci-{job.id}-")]


def test_a_driver_without_its_runner_gives_the_nodes_back(site: DriverSite, gitlab: GitLab) -> None:
    """The runner alone dies: the driver's parent is another now."""
    job = _long()
    build = Build(site.custom, gitlab, job, gitlab.commit({"x": "y"}))
    site.custom.run[:0] = ["sh", "-c", '"$@" & echo $! >"$0"; wait', str(site.state / "pid")]
    try:
        with build:
            build.wait_for("it runs\n")
            pid = build.wait_for_stage("build_script")
            os.kill(pid, signal.SIGKILL)  # the shell in between, as the driver sees it: its parent
            (ended,) = _ended(site, job)
            assert ended.state == "cancelled"
            build.wait()
    finally:
        del site.custom.run[:4]
