"""Whatever happens between here and the system: tests are late, never lost, and never run twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.reframe_suite import Suite
from harness.sites import gateway_site
from harness.waiting import until_blocking

CHECKS = Path(__file__).parent / "checks"
MANY = CHECKS / "many.py"


def _faults(plain: PlainFirecrest) -> None:
    """A bad day: every kind of request fails now and then, some after they were carried out."""
    for status in (500, 502, 503, 504, 408, 424):
        plain.faults.fail(status, path="/(ops|compute|status)/", skip=status % 7, count=1)
    plain.faults.fail(408, path="/jobs", method="POST", when="after", count=1)
    plain.faults.fail(500, path="/jobs", method="POST", when="after", skip=2, count=1)
    plain.faults.drop(path="/jobs", method="POST", when="after", skip=3, count=1)
    plain.faults.drop(path="/jobs", method="GET", count=2)
    plain.faults.drop(path="/(compress|extract|download|upload)", count=2)
    plain.faults.throttle(1, path="/", count=3, skip=5)
    plain.faults.garble(path="/jobs", method="GET", skip=3)
    plain.faults.fresh_job_404 = 0.5
    plain.faults.allocation_window = 1.0


def test_a_bad_day_of_the_gateway(on_plain: Suite, plain: PlainFirecrest) -> None:
    on_plain.variables["RFM_TEST_COUNT"] = "6"
    _faults(plain)
    threading.Timer(8, plain.down, [4]).start()
    done = on_plain.run("-c", MANY, "-S", "seconds=2", "-r")
    assert done.exit_status == 0, done.output
    assert len(done.results) == 6
    assert [job.exit_code for job in plain.jobs()] == [0] * 6


def test_tokens_that_expire_all_the_time(on_plain: Suite, plain: PlainFirecrest) -> None:
    on_plain.variables["RFM_TEST_COUNT"] = "3"
    plain.settings.token_lifetime = 31  # one second later it is too old for the server
    threading.Timer(6, plain.faults.fail, [401], {"path": "/jobs", "count": 1}).start()
    done = on_plain.run("-c", MANY, "-S", "seconds=4", "-r")
    assert done.exit_status == 0, done.output
    assert len(plain.jobs()) == 3


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "gateway", free_port())
    gateway.start()
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop()


def test_a_gateway_that_is_killed_and_comes_back(own_gateway: GatewayProcess, tmp_path: Path) -> None:
    suite = Suite(tmp_path / "suite", gateway_site(own_gateway), variables={"RFM_TEST_COUNT": "4"})
    process = suite.start("-c", MANY, "-S", "seconds=8", "-r")
    _until_it_runs(own_gateway)
    own_gateway.kill()
    own_gateway.start()
    done = suite.finish(process)
    assert done.exit_status == 0, done.output
    with own_gateway.http() as http:
        assert len(_jobs(http)) == 4


def test_a_run_that_is_killed_is_gone_on_with(own_gateway: GatewayProcess, tmp_path: Path) -> None:
    """The second run takes over the first one's jobs; what changed meanwhile runs anew, and what is left ends."""
    suite = Suite(tmp_path / "suite", gateway_site(own_gateway), variables={"RFM_TEST_COUNT": "4"})
    until_told = ("-c", MANY, "-S", "seconds=0; while [ ! -e go ]; do sleep 0.1; done", "-r")
    process = suite.start(*until_told)
    _until_it_runs(own_gateway, 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with own_gateway.http() as http:
        first = {job["jobId"] for job in _jobs(http)}
        there = next(Path(job["workingDirectory"]) for job in _jobs(http) if _word(job) == "RUNNING")
        (there / "go").touch()
        done = suite.run(*until_told, "-n", f"/{there.name.removeprefix('Small_')}")
        assert done.exit_status == 0, done.output
        assert {job["job_id"] for job in done.jobs().values()} < first
        states = {job["jobId"]: _word(job) for job in _jobs(http)}
    assert states.keys() == first
    assert sorted(states.values()) == ["CANCELLED", "CANCELLED", "CANCELLED", "COMPLETED"]


def test_an_interrupted_run_ends_its_jobs(own_gateway: GatewayProcess, tmp_path: Path) -> None:
    suite = Suite(tmp_path / "suite", gateway_site(own_gateway), variables={"RFM_TEST_COUNT": "8"})
    process = suite.start("-c", MANY, "-S", "seconds=600", "-r")
    _until_it_runs(own_gateway, 8, running=False)
    done = suite.finish(process, signal.SIGINT)
    assert done.exit_status != 0
    with own_gateway.http() as http:
        assert {_word(job) for job in _jobs(http)} == {"CANCELLED"}
    assert not list((suite.place / ".crestline-reframe").glob("*.jsonl"))


def _jobs(http: httpx.Client) -> list[dict[str, Any]]:
    return list(http.get("/compute/local/jobs").json()["jobs"])


def _word(job: dict[str, Any]) -> str:
    """The state without who cancelled."""
    return str(job["status"]["state"]).split(" ")[0]


def _until_it_runs(gateway: GatewayProcess, jobs: int = 1, *, running: bool = True) -> None:
    """Return when so many jobs are there, and one of them runs."""
    with gateway.http() as http:

        def are_there() -> bool:
            states = [job["status"]["state"] for job in _jobs(http)]
            return len(states) >= jobs and (not running or "RUNNING" in states)

        until_blocking(are_there)


def test_an_outage_is_told_once_and_whenever_its_answer_changes(on_plain: Suite, plain: PlainFirecrest) -> None:
    on_plain.variables["RFM_TEST_RELEASE"] = str(on_plain.place / "go")
    printed = on_plain.place / "printed"
    process = on_plain.start("-c", CHECKS / "held.py", "-r")
    until_blocking(lambda: len(plain.jobs()) == 2)
    for status in (503, 504):
        plain.faults.fail(status, path="/compute/", count=None)
        until_blocking(lambda status=status: f"answered {status}" in printed.read_text())
        plain.faults.rules.clear()
    until_blocking(lambda: "(compute) answers again" in printed.read_text())
    (on_plain.place / "go").touch()
    done = on_plain.finish(process)
    assert done.exit_status == 0, done.output
    assert all(done.output.count(f"answered {status}") == 1 for status in (503, 504)), done.output


def test_the_last_answer_of_an_outage_is_the_reason_of_the_failure(on_plain: Suite, plain: PlainFirecrest) -> None:
    on_plain.firecrest["patience"] = 5
    plain.faults.fail(503, path="/upload", count=None)
    done = on_plain.run("-c", CHECKS / "fails.py", "-r")
    assert done.results == {"Fails": "fail"}, done.output
    assert "503" in done.cases["Fails"]["fail_reason"], done.output
