"""The driver, the gateway or the runner dies, at any call: never two jobs for one CI job, and none stays."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections.abc import Iterable

import pytest

from crestline.client import connect_blocking
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite
from gitlab_runner.stand_in.ci_job import CiJob
from gitlab_runner.stand_in.gitlab import GitLab
from gitlab_runner.stand_in.runner import Build
from plain_firecrest.fixture import PlainFirecrest

STAGES = ["config", "prepare", "get_sources", "build_script", "after_script", "upload_artifacts_on_success", "cleanup"]


def _job() -> CiJob:
    return CiJob(script=["echo it runs", "sleep 1"], after_script=["true"], artifacts=[{"paths": ["README.md"]}])


def _check(site: DriverSite, job: CiJob, build: Build) -> None:
    """Of several tries each may have had a job, but never two at the same time; and all have ended."""
    with connect_blocking(site.client_site) as system:
        jobs = [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]
        ended = sorted((system.wait(each, timeout=180) for each in jobs), key=lambda each: each.times.start or 0)
    for earlier, later in itertools.pairwise(ended):
        assert (earlier.times.end or 0) <= (later.times.start or 0), build.text
    assert build.state == "success" or build.reason == "runner_system_failure", build.text


def _soak(values: Iterable[object]) -> list[object]:
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


@pytest.mark.parametrize("stage", ["prepare", "build_script", *_soak(sorted({*STAGES} - {"prepare", "build_script"}))])
def test_a_driver_killed_in_any_stage(stage: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", recovery={"heartbeat_ttl": "20s"})
    job = _job()
    luck = random.Random(stage)
    seen: list[str] = []

    def kill_once(name: str) -> None:
        if name == stage and name not in seen:
            seen.append(name)
            threading.Thread(target=kill, daemon=True).start()

    def kill() -> None:
        pid = build.wait_for_stage(stage)
        threading.Event().wait(luck.uniform(0.0, 1.5))
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    build = Build(site.custom, gitlab, job, gitlab.commit({"README.md": "x"}), before_call=kill_once)
    with build:
        build.wait()
    _check(site, job, build)


@pytest.mark.parametrize("request_number", [3, 15, *_soak(sorted({*range(1, 40)} - {3, 15}))])
def test_a_gateway_that_drops_any_request(
    request_number: int, make_site: MakeSite, plain: PlainFirecrest, gitlab: GitLab
) -> None:
    """Once after it was carried out: the answer is lost."""
    site = make_site("plain")
    plain.faults.reset()
    plain.faults.drop("", skip=request_number, when="after")
    job = _job()
    build = site.run(gitlab, job)
    plain.faults.reset()
    _check(site, job, build)
    assert build.state == "success", build.text
