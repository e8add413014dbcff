"""The driver, the gateway or the runner dies, at any call: never two jobs for one CI job, and none stays."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from crestline.client import connect_blocking
from crestline.testing.firecrest import PlainFirecrest
from crestline.testing.gitlab_runner import Build, CiJob, GitLab
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite, gateway_site
from harness.gateway import GatewayProcess
from harness.ports import free_port

CALLS = [
    *("config", "prepare", "prepare_script", "get_sources", "build_script", "after_script"),
    *("upload_artifacts_on_success", "cleanup_file_variables", "cleanup"),
]


def _job() -> CiJob:
    return CiJob(script=["echo it runs", "sleep 1"], after_script=["true"], artifacts=[{"paths": ["README.md"]}])


def _once(call: str, act: Callable[[Build], None], build: Callable[[], Build]) -> Callable[[str], None]:
    """A `before_call` that acts once, up to two seconds after the call has begun: seeded by its name."""
    delay = random.Random(call).uniform(0.0, 2.0)
    seen: list[str] = []

    def later() -> None:
        build().wait_for_stage(call)
        time.sleep(delay)
        act(build())

    def before(stage: str) -> None:
        if stage == call and not seen:
            seen.append(stage)
            threading.Thread(target=later, daemon=True).start()

    return before


def _kill_driver(build: Build) -> None:
    pid = build.running_pid
    if pid is not None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _kill_runner(build: Build) -> None:
    """As when the machine goes down: no stage is called any more."""
    build.kill_runner()
    _kill_driver(build)


def _check(site: DriverSite, job: CiJob, build: Build) -> None:
    """Of several tries each may have had a job, but never two at the same time; and all have ended."""
    with connect_blocking(site.client_site) as system:
        jobs = [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]
        ended = sorted((system.wait(each, timeout=180) for each in jobs), key=lambda each: each.times.start or 0)
    for earlier, later in itertools.pairwise(ended):
        assert (earlier.times.end or 0) <= (later.times.start or 0), build.text
    assert build.state == "success" or build.reason in ("runner_system_failure", "canceled"), build.text


def _check_nothing_is_left(site: DriverSite, job: CiJob) -> None:
    """After a while `gc` removes all that is still there, on both sides."""
    long_ago = time.time() - 3600
    for record in site.state.glob("*/job-*/record.json"):
        os.utime(record, (long_ago, long_ago))
    for _ in range(2):  # the second finds nothing to do
        done = subprocess.run([*site.custom.cleanup[:2], "gc", "-c", str(site.file)], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()
    assert done.stdout == b""
    assert site.left_behind() == []
    with connect_blocking(site.client_site) as system:
        assert not [each for each in system.jobs() if f"ci-{job.id}-" in each.name and not each.is_finished]
        root = f"{system.default_workdir()}/.crestline-ci/driver"
        assert not [each.name for each in system.ls(root) if each.name.startswith(f"ci-{job.id}-")]


def _soak(values: Iterable[object]) -> list[object]:
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


def _some(few: list[str]) -> list[object]:
    return [*few, *_soak(call for call in CALLS if call not in few)]


def _run(site: DriverSite, job: CiJob, gitlab: GitLab, call: str, act: Callable[[Build], None]) -> Build:
    build: Build
    before = _once(call, act, lambda: build)
    build = Build(site.custom, gitlab, job, gitlab.commit({"README.md": "x"}), before_call=before)
    with build:
        return build.wait()


@pytest.mark.parametrize("call", _some(["prepare", "build_script"]))
def test_a_driver_that_is_killed(call: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", recovery={"heartbeat_ttl": "20s"})
    job = _job()
    build = _run(site, job, gitlab, call, _kill_driver)
    _check(site, job, build)
    _check_nothing_is_left(site, job)


@pytest.mark.parametrize("call", _some(["prepare", "after_script"]))
def test_a_runner_that_is_killed(call: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", recovery={"heartbeat_ttl": "20s"})
    job = _job()
    build = _run(site, job, gitlab, call, _kill_runner)
    _check_nothing_is_left(site, job)
    _check(site, job, build)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path_factory.mktemp("mortal") / "home", free_port())
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("call", _some(["prepare", "build_script"]))
def test_a_gateway_that_is_killed_and_comes_back(
    call: str, mortal: GatewayProcess, gitlab: GitLab, tmp_path: Path
) -> None:
    site = gateway_site(tmp_path, mortal)
    job = _job()
    back = threading.Event()

    def restart(build: Build) -> None:
        mortal.kill()
        mortal.start()
        back.set()

    build = _run(site, job, gitlab, call, restart)
    assert back.wait(60)
    _check(site, job, build)
    _check_nothing_is_left(site, job)


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
