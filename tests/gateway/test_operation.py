"""A gateway in operation: it leaves gracefully, takes up another configuration, and says how it is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from harness.gateway import GatewayProcess, RunningGateway, in_thread
from harness.reverse_proxy import free_port

JOBS = "/compute/local/jobs"
MIB = 1024 * 1024
PATIENCE = 240

pytestmark = pytest.mark.timeout(900)


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.1)


class Operated:
    """A gateway process whose configuration file a test writes."""

    def __init__(self, place: Path) -> None:
        self.file = place / "gateway.toml"
        self.write()
        arguments = ("--config", str(self.file), "--log-level", "info")
        self.process = GatewayProcess(place / "home", free_port(), *arguments)

    def write(self, **config: Any) -> None:
        self.file.write_text(tomli_w.dumps(config))

    def hang_up(self, said: str) -> None:
        """Let it read the file again; returns when the log says `said`."""
        before = self.log.count(said)
        self.signal(signal.SIGHUP)
        eventually(lambda: self.log.count(said) > before)

    def signal(self, number: signal.Signals) -> None:
        assert self.process.process is not None
        self.process.process.send_signal(number)

    def wait(self) -> int:
        assert self.process.process is not None
        return self.process.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self.process.log.read_text()


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[Operated]:
    operated = Operated(tmp_path)
    yield operated
    if operated.process.process is not None and operated.process.process.poll() is None:
        operated.process.stop()


# leaving


def test_it_leaves_when_what_runs_has_ended(operated: Operated) -> None:
    """An upload in the middle is answered, a transfer comes to its end, and a stream ends as streams should."""
    operated.write(drain={"notice": 600.0, "limit": 120.0})
    gateway = operated.process
    gateway.start()
    files = gateway.home / "files"
    (files / "large").write_bytes(os.urandom(8 * MIB))
    leaving = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"first half, "
        assert leaving.wait(PATIENCE)
        yield b"second half"

    with gateway.http() as http, ThreadPoolExecutor(2) as pool, gateway.http() as other:
        stream = pool.submit(lambda: other.get(f"{JOBS}/events", timeout=PATIENCE).status_code)
        upload = pool.submit(http.put, "/filesystem/local/ops/content", params={"path": f"{files}/new"}, content=body())
        with gateway.http() as third:
            target = {"path": f"{files}/large", "targetPath": f"{files}/packed", "compression": "bzip2"}
            begun = third.post("/filesystem/local/transfer/compress", json=target).json()
            job = begun["transferJob"]["jobId"]
            operated.signal(signal.SIGTERM)
            eventually(lambda: third.get("/status/readiness").status_code == 503)
            assert third.get("/status/liveness").status_code == 200, "it serves on while others look elsewhere"
            operated.signal(signal.SIGTERM)  # enough of notice
        leaving.set()
        assert upload.result(PATIENCE).status_code in (200, 201, 204)
        assert stream.result(PATIENCE) in (200, 404)
    assert operated.wait() == -signal.SIGTERM
    assert (files / "new").read_text() == "first half, second half"
    operated.write()
    gateway.start()
    with gateway.http() as http:
        assert http.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]["state"] == "COMPLETED"
    assert not [name for name in os.listdir(files) if name.startswith(".crestline-")]


def test_what_takes_longer_than_the_limit_is_ended(operated: Operated) -> None:
    operated.write(drain={"limit": 1.0})
    gateway = operated.process
    gateway.start()
    files = gateway.home / "files"
    with (files / "large").open("wb") as file:
        file.truncate(10**12)
    with gateway.http() as http:
        target = {"path": f"{files}/large", "targetPath": f"{files}/packed", "compression": "gzip"}
        job = http.post("/filesystem/local/transfer/compress", json=target).json()["transferJob"]["jobId"]
    operated.signal(signal.SIGTERM)
    assert operated.wait() == -signal.SIGTERM
    gateway.start()
    with gateway.http() as http:
        status = http.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]
        assert (status["state"], "stopped" in status["stateReason"]) == ("FAILED", True)


# another configuration


def system(place: Path, **more: Any) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    return {"file_systems": [{"path": str(place), "default_work_dir": True}], **more}


def test_systems_come_and_change_and_go(operated: Operated, tmp_path: Path) -> None:
    one = tmp_path / "one"
    operated.write(systems={"one": system(one)})
    operated.process.start()
    with operated.process.http() as http:

        def names() -> dict[str, Any]:
            return {each["name"]: each for each in http.get("/status/systems").json()["systems"]}

        job = {"workingDirectory": str(one), "script": "#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\n"}
        running = http.post("/compute/one/jobs", json={"job": job}).json()["jobId"]
        assert set(names()) == {"one"}
        operated.write(systems={"one": system(one), "two": system(tmp_path / "two")})
        operated.hang_up("configuration taken up")
        assert set(names()) == {"one", "two"}
        assert http.get("/compute/two/jobs").status_code == 200
        partition = {"type": "local", "partitions": [{"name": "fresh"}]}
        operated.write(systems={"one": system(one, scheduler=partition, max_ops_file_size=10)})
        operated.hang_up("configuration taken up")
        assert set(names()) == {"one"}
        assert names()["one"]["dataOperation"]["max_ops_file_size"] == 10
        assert http.get("/compute/two/jobs").status_code == 404
        (shown,) = http.get("/status/one/partitions").json()["partitions"]
        assert shown["name"] == "fresh"
        state = http.get(f"/compute/one/jobs/{running}").json()["jobs"][0]["status"]["state"]
        assert state == "RUNNING", "jobs go on"
        (one / "go").touch()
        eventually(lambda: http.get(f"/compute/one/jobs/{running}").json()["jobs"][0]["status"]["state"] == "COMPLETED")
        nobody = [{"users": ["nobody-of-the-tests"]}]
        operated.write(systems={"one": system(one, scheduler=partition, max_ops_file_size=10, access=nobody)})
        operated.hang_up("configuration taken up")
        assert http.get("/compute/one/jobs").status_code == 403


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("systems = 3", "systems"),
        ("[systems.a.scheduler]\ntype = 'lsf'\n", "'lsf'"),
        ("[systems.a.host]\ntype = 'ssh'\n", "file systems"),
        ("not toml", "is not TOML"),
    ],
)
def test_a_bad_configuration_keeps_the_old_one(operated: Operated, tmp_path: Path, broken: str, said: str) -> None:
    operated.write(systems={"one": system(tmp_path / "one")})
    operated.process.start()
    with operated.process.http() as http:
        operated.file.write_text(broken)
        operated.hang_up("the configuration stays as it was")
        line = operated.log.partition("stays as it was")[2]
        assert said in line
        assert [each["name"] for each in http.get("/status/systems").json()["systems"]] == ["one"]
        assert http.get("/compute/one/jobs").status_code == 200
        operated.write(systems={"one": system(tmp_path / "one")}, port=1)
        operated.hang_up("from the next start on")


# how it is


def test_metrics_have_a_listener_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    with in_thread(tmp_path / "home", metrics={"port": port}) as gateway, gateway.http() as http:
        job = {"workingDirectory": f"{gateway.home}/files", "script": "#!/bin/sh\ntrue\n"}
        for _ in range(2):
            http.post(JOBS, json={"job": job}, headers={"Idempotency-Key": "measured"})
        http.get(f"{JOBS}/12345678")
        http.get("/no/such/route")
        assert http.get("/metrics").status_code == 404, "not where the API is"
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        jobs = "/compute/{system_name:str}/jobs"
        for method, route, status in (("POST", jobs, 201), ("GET", jobs + "/{job_id:str}", 404), ("GET", "none", 404)):
            labels = f'method="{method}",route="{route}",status="{status}"'
            assert f"\ncrestline_http_request_duration_seconds_count{{{labels}}} " in text
        for sample in (
            'crestline_submissions_total{outcome="submitted",system="local"} ',
            'crestline_submissions_total{outcome="repeated",system="local"} ',
            'crestline_service_healthy{service="scheduler",system="local"} 1.0',
            "process_resident_memory_bytes ",
        ):
            assert f"\n{sample}" in text
        assert "12345678" not in text, "one series for all jobs"


def test_readiness_and_liveness_need_no_token(gateway: RunningGateway) -> None:
    for name in ("readiness", "liveness"):
        assert httpx.get(f"{gateway.url}/status/{name}").status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"), [("my-id.7_x", True), ("x" * 129, False), ("line\tbreak", False), ("", False)]
)
def test_request_ids(operated: Operated, given: str, kept: bool) -> None:
    operated.process.start()
    answer = httpx.get(f"{operated.process.url}/status/liveness", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) == kept
    eventually(lambda: f"[{answer.headers['X-Request-ID']}] crestline.access" in operated.log)
