"""Which jobs of an earlier run the next one continues with, and which tests it runs anew."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.reframe_suite import Suite
from harness.sites import gateway_site
from harness.waiting import until_blocking

CHECKS = Path(__file__).parent / "checks"


def _held(suite: Suite) -> tuple[str | Path, ...]:
    """Arguments of two tests whose jobs end when the file `go` appears."""
    suite.variables["RFM_TEST_RELEASE"] = str(suite.place / "go")
    return ("-c", CHECKS / "held.py", "-r")


def _journals(suite: Suite) -> list[Path]:
    return list((suite.place / ".crestline-reframe").glob("*.jsonl"))


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "gateway", free_port())
    gateway.start()
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop()


@pytest.fixture
def on_own(own_gateway: GatewayProcess, tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", gateway_site(own_gateway))


def test_what_an_interrupt_cancelled_runs_anew(on_plain: Suite, plain: PlainFirecrest) -> None:
    """The first run cancels its jobs and cannot remove its files."""
    arguments = _held(on_plain)
    plain.faults.fail(503, path="/rm$", count=None)
    process = on_plain.start(*arguments)
    until_blocking(lambda: len(plain.jobs()) == 2)
    first = on_plain.finish(process, signal.SIGINT)
    assert first.exit_status != 0
    assert re.search(r"could not be cleaned up on the system: \w.*\. The next run", first.output), first.output
    assert "Task was destroyed" not in first.output
    assert len(_journals(on_plain)) == 1
    earlier = {job.id for job in plain.jobs()}
    plain.faults.rules.clear()
    (on_plain.place / "go").touch()
    second = on_plain.run(*arguments)
    assert second.exit_status == 0, second.output
    assert not earlier & {job["job_id"] for job in second.jobs().values()}
    assert not _journals(on_plain)
    assert not list((plain.home / "reframe").iterdir())


def test_jobs_that_an_interrupted_run_could_not_cancel_end_with_the_next(
    own_gateway: GatewayProcess, on_own: Suite
) -> None:
    arguments = _held(on_own)
    process = on_own.start(*arguments)
    with own_gateway.http() as http:
        until_blocking(lambda: len(_states(http)) == 2)
        earlier = set(_states(http))
    own_gateway.kill()
    first = on_own.finish(process, signal.SIGINT)
    assert first.exit_status != 0
    own_gateway.start()
    second = on_own.start(*arguments)
    with own_gateway.http() as http:
        until_blocking(lambda: len(_states(http)) == 4)
        (on_own.place / "go").touch()
        done = on_own.finish(second)
        assert done.exit_status == 0, done.output
        assert not earlier & {job["job_id"] for job in done.jobs().values()}
        until_blocking(lambda: not {"RUNNING", "PENDING"} & set(_states(http).values()))
    assert not _journals(on_own)


@pytest.mark.parametrize("lost", ["job", "files"])
def test_a_job_that_cannot_stand_for_its_test_any_more_is_run_anew(
    own_gateway: GatewayProcess, on_own: Suite, lost: str
) -> None:
    """The first run is killed; then its jobs are cancelled, or their files removed, by others."""
    arguments = _held(on_own)
    process = on_own.start(*arguments)
    with own_gateway.http() as http:
        until_blocking(lambda: list(_states(http).values()) == ["RUNNING", "RUNNING"])
        process.send_signal(signal.SIGKILL)
        process.wait()
        earlier = set(_states(http))
        if lost == "job":
            for job_id in earlier:
                http.delete(f"/compute/local/jobs/{job_id}").raise_for_status()
        (on_own.place / "go").touch()
        until_blocking(lambda: not {"RUNNING", "PENDING"} & set(_states(http).values()))
        if lost == "files":
            for job in http.get("/compute/local/jobs").json()["jobs"]:
                shutil.rmtree(job["workingDirectory"])
    done = on_own.run(*arguments)
    assert done.exit_status == 0, done.output
    assert not earlier & {job["job_id"] for job in done.jobs().values()}
    assert len(re.findall("runs again: job .* of an earlier run", done.output)) == 2


def _states(http: httpx.Client) -> dict[str, str]:
    """State of each job, without the user who cancelled it."""
    jobs = http.get("/compute/local/jobs").json()["jobs"]
    return {job["jobId"]: job["status"]["state"].split(" ")[0] for job in jobs}
