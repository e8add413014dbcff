"""A gateway in operation: it leaves gracefully, takes up another configuration, and says how it is."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tomlkit

from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.waiting import until_blocking

JOBS = "/compute/local/jobs"
MIB = 1024 * 1024
PATIENCE = 240

pytestmark = pytest.mark.timeout(900)


class Operated:
    """A gateway process whose configuration file a test writes."""

    def __init__(self, place: Path, **always: Any) -> None:
        self._always = always
        self.file = place / "gateway.toml"
        self.write()
        arguments = ("--config", str(self.file), "--log-level", "info")
        self.process = GatewayProcess(place / "home", free_port(), *arguments)

    def write(self, **config: Any) -> None:
        self.file.write_text(tomlkit.dumps(self._always | config))

    def reload(self, **config: Any) -> None:
        """Let it take up this configuration."""
        self.write(**config)
        self.hang_up("configuration taken up")

    def hang_up(self, said: str) -> None:
        """Let it read the file again; returns when the log says `said`."""
        before = self.log.count(said)
        self.signal(signal.SIGHUP)
        until_blocking(lambda: self.log.count(said) > before)

    def signal(self, number: signal.Signals) -> None:
        assert self.process.process is not None
        self.process.process.send_signal(number)

    def wait(self) -> int:
        assert self.process.process is not None
        return self.process.process.wait(PATIENCE)

    def end(self) -> None:
        """End it whatever it does."""
        if self.process.process is not None and self.process.process.poll() is None:
            self.process.kill()

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self._always['metrics']['port']}/metrics").text

    def open_files(self) -> set[str]:
        assert self.process.process is not None
        return {file.path for file in psutil.Process(self.process.process.pid).open_files()}

    @property
    def log(self) -> str:
        return self.process.log.read_text()


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[Operated]:
    """One that a test starts and ends."""
    operated = Operated(tmp_path)
    yield operated
    operated.end()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """One that serves all tests of this file; each gives it a configuration."""
    operated = Operated(tmp_path_factory.mktemp("serving"), metrics={"port": free_port()})
    operated.process.start()
    yield operated
    operated.end()


# leaving


def test_it_leaves_when_what_runs_has_ended(leaving: Operated) -> None:
    """An upload in the middle is answered, a transfer comes to its end, and a stream ends as streams should."""
    leaving.write(drain={"ready_delay": 600.0, "timeout": 120.0})
    gateway = leaving.process
    gateway.start()
    files = gateway.home / "files"
    (files / "large").write_bytes(os.urandom(8 * MIB))
    go_on = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"first half, "
        assert go_on.wait(PATIENCE)
        yield b"second half"

    with gateway.http() as http, ThreadPoolExecutor(2) as pool, gateway.http() as other:
        stream = pool.submit(lambda: other.get(f"{JOBS}/events", timeout=PATIENCE).status_code)
        upload = pool.submit(http.put, "/filesystem/local/ops/content", params={"path": f"{files}/new"}, content=body())
        with gateway.http() as third:
            target = {"path": f"{files}/large", "targetPath": f"{files}/packed", "compression": "bzip2"}
            begun = third.post("/filesystem/local/transfer/compress", json=target).json()
            job = begun["transferJob"]["jobId"]
            leaving.signal(signal.SIGTERM)
            until_blocking(lambda: third.get("/status/readiness").status_code == 503)
            assert third.get("/status/liveness").status_code == 200, "it serves on while others look elsewhere"
            leaving.signal(signal.SIGTERM)  # enough of notice
        go_on.set()
        assert upload.result(PATIENCE).status_code in (200, 201, 204)
        assert stream.result(PATIENCE) in (200, 404)
    assert leaving.wait() == -signal.SIGTERM
    assert (files / "new").read_text() == "first half, second half"
    leaving.write()
    gateway.start()
    with gateway.http() as http:
        assert http.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]["state"] == "COMPLETED"
    assert not [name for name in os.listdir(files) if name.startswith(".crestline-")]


def test_what_takes_longer_than_the_limit_is_ended(leaving: Operated) -> None:
    leaving.write(drain={"timeout": 1.0})
    gateway = leaving.process
    gateway.start()
    files = gateway.home / "files"
    with (files / "large").open("wb") as file:
        file.truncate(10**12)
    with gateway.http() as http:
        target = {"path": f"{files}/large", "targetPath": f"{files}/packed", "compression": "gzip"}
        job = http.post("/filesystem/local/transfer/compress", json=target).json()["transferJob"]["jobId"]
    leaving.signal(signal.SIGTERM)
    assert leaving.wait() == -signal.SIGTERM
    gateway.start()
    with gateway.http() as http:
        status = http.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]
        assert (status["state"], "stopped" in status["stateReason"]) == ("FAILED", True)


# another configuration


def system(place: Path, **more: Any) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    return {"file_systems": [{"path": str(place), "default_work_dir": True}], **more}


def test_systems_come_and_change_and_go(serving: Operated, tmp_path: Path) -> None:
    one = tmp_path / "one"
    serving.reload(systems={"one": system(one)})
    with serving.process.http() as http:

        def names() -> dict[str, Any]:
            return {each["name"]: each for each in http.get("/status/systems").json()["systems"]}

        job = {"workingDirectory": str(one), "script": "#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\n"}
        running = http.post("/compute/one/jobs", json={"job": job}).json()["jobId"]
        assert set(names()) == {"one"}
        serving.reload(systems={"one": system(one), "two": system(tmp_path / "two")})
        assert set(names()) == {"one", "two"}
        assert http.get("/compute/two/jobs").status_code == 200
        partition = {"type": "local", "partitions": [{"name": "fresh"}]}
        serving.reload(systems={"one": system(one, scheduler=partition, max_ops_file_size=10)})
        assert set(names()) == {"one"}
        assert names()["one"]["dataOperation"]["max_ops_file_size"] == 10
        assert http.get("/compute/two/jobs").status_code == 404
        (shown,) = http.get("/status/one/partitions").json()["partitions"]
        assert shown["name"] == "fresh"
        state = http.get(f"/compute/one/jobs/{running}").json()["jobs"][0]["status"]["state"]
        assert state == "RUNNING", "jobs go on"
        (one / "go").touch()
        until_blocking(
            lambda: http.get(f"/compute/one/jobs/{running}").json()["jobs"][0]["status"]["state"] == "COMPLETED"
        )
        serving.reload(systems={"one": system(one), "two": system(tmp_path / "two")})
        assert http.get("/compute/two/jobs").status_code == 200, "back before the drain's limit has let the old one go"
        nobody = [{"users": ["nobody-of-the-tests"]}]
        serving.reload(systems={"one": system(one, scheduler=partition, max_ops_file_size=10, access=nobody)})
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
def test_a_bad_configuration_keeps_the_old_one(serving: Operated, tmp_path: Path, broken: str, said: str) -> None:
    serving.reload(systems={"kept": system(tmp_path / "kept")})
    with serving.process.http() as http:
        serving.file.write_text(broken)
        serving.hang_up("the configuration stays as it was")
        assert said in serving.log.rpartition("stays as it was")[2]
        assert [each["name"] for each in http.get("/status/systems").json()["systems"]] == ["kept"]
        assert http.get("/compute/kept/jobs").status_code == 200


def test_a_system_that_cannot_start_leaves_all_as_it_was(serving: Operated, tmp_path: Path) -> None:
    """One scheduler at a time works in a directory, so the old one had to go before the new one could start."""
    first = system(tmp_path / "first")
    serving.reload(systems={"first": first})
    taken = serving.process.home / "private" / "systems" / "taken"
    taken.mkdir(parents=True)
    with serving.process.http() as http, (taken / "lock").open("w") as lock:
        job = {"workingDirectory": str(tmp_path / "first"), "script": "#!/bin/sh\nsleep 1000\n"}
        running = http.post("/compute/first/jobs", json={"job": job}).json()["jobId"]
        fcntl.flock(lock, fcntl.LOCK_EX)
        serving.write(systems={"first": first | {"max_ops_file_size": 10}, "taken": system(tmp_path / "taken")})
        serving.hang_up("the configuration stays as it was")
        assert "Another gateway already runs" in serving.log.rpartition("stays as it was")[2]
        (kept,) = http.get("/status/systems").json()["systems"]
        assert (kept["name"], kept["dataOperation"]["max_ops_file_size"]) == ("first", 5 * MIB)
        state = http.get(f"/compute/first/jobs/{running}").json()["jobs"][0]["status"]["state"]
        assert state == "RUNNING"
        assert http.delete(f"/compute/first/jobs/{running}").status_code == 204


def test_what_counts_from_the_next_start_on_is_named(serving: Operated) -> None:
    serving.write(max_body_size=1000)
    serving.hang_up("configuration taken up")
    assert "changes of max_body_size count from the next start on" in serving.log


def test_a_hangup_in_the_middle_of_a_reload_counts(serving: Operated, tmp_path: Path) -> None:
    busy = serving.process.home / "private" / "systems" / "busy"
    busy.mkdir(parents=True)
    with serving.process.http() as http, (busy / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        serving.write(systems={"busy": system(tmp_path / "busy")})
        serving.hang_up("reading the configuration again")  # and waits for the lock
        serving.write(systems={"next": system(tmp_path / "next")})
        serving.signal(signal.SIGHUP)
        until_blocking(lambda: http.get("/compute/next/jobs").status_code == 200)


# no request hangs


def test_an_answer_comes_in_time_or_a_refusal_does(serving: Operated) -> None:
    """What it was for is then ended; a slow upload and a wait that the client asks for are no reason to refuse."""
    serving.reload(deadline=2.0)
    files = serving.process.home / "files"
    with (files / "endless").open("wb") as file:
        file.truncate(10**13)
    late = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"slow, "
        assert late.wait(PATIENCE)
        yield b"but whole"

    with serving.process.http() as http, serving.process.http() as other, ThreadPoolExecutor(1) as pool:
        content = {"params": {"path": f"{files}/slow"}, "content": body()}
        upload = pool.submit(lambda: other.put("/filesystem/local/ops/content", **content, timeout=PATIENCE))
        answer = http.get("/filesystem/local/ops/checksum", params={"path": f"{files}/endless"})
        late.set()
        assert answer.status_code == 503
        assert answer.json()["message"].startswith("There was no answer within 2 s")
        assert int(answer.headers["Retry-After"]) > 0
        until_blocking(lambda: str(files / "endless") not in serving.open_files())
        assert upload.result(PATIENCE).status_code == 204
        assert (files / "slow").read_text() == "slow, but whole"
        tag = http.get(JOBS).headers["ETag"]
        assert http.get(JOBS, params={"wait": 3}, headers={"If-None-Match": tag}).status_code == 304


# how it is


def test_metrics_have_a_listener_of_their_own(serving: Operated) -> None:
    serving.reload()
    with serving.process.http() as http:
        job = {"workingDirectory": f"{serving.process.home}/files", "script": "#!/bin/sh\ntrue\n"}
        for _ in range(2):
            http.post(JOBS, json={"job": job}, headers={"Idempotency-Key": "measured"})
        http.get(f"{JOBS}/12345678")
        http.get("/no/such/route")
        assert http.get("/metrics").status_code == 404, "not where the API is"
        health = '\ncrestline_service_healthy{service="scheduler",system="local"} 1.0'
        until_blocking(lambda: health in serving.metrics())
        text = serving.metrics()
        jobs = "/compute/{system_name}/jobs"
        for method, route, status in (("POST", jobs, 201), ("GET", jobs + "/{job_id}", 404), ("GET", "none", 404)):
            labels = f'method="{method}",route="{route}",status="{status}"'
            assert f"\ncrestline_http_request_duration_seconds_count{{{labels}}} " in text
        for sample in (
            'crestline_submissions_total{outcome="submitted",system="local"} ',
            'crestline_submissions_total{outcome="repeated",system="local"} ',
            "process_resident_memory_bytes ",
        ):
            assert f"\n{sample}" in text
        assert "12345678" not in text, "one series for all jobs"
        healthy = re.findall(r'\ncrestline_service_healthy{.*?system="([^"]+)"', text)
        assert set(healthy) == {"local"}, "and not of systems that are gone"


def test_readiness_and_liveness_need_no_token(serving: Operated) -> None:
    for name in ("readiness", "liveness"):
        assert httpx.get(f"{serving.process.url}/status/{name}").status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"), [("my-id.7_x", True), ("x" * 129, False), ("line\tbreak", False), ("", False)]
)
def test_request_ids(serving: Operated, given: str, kept: bool) -> None:
    answer = httpx.get(f"{serving.process.url}/status/liveness", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) == kept
    until_blocking(lambda: f"[{answer.headers['X-Request-ID']}] crestline.access" in serving.log)
