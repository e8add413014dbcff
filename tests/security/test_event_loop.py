"""The event loop belongs to all callers: no body, file or lock of one of them stops it for the others."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig, load_config
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.routes.iri.compute import MAX_JOB
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.schedulers.instrumented import InstrumentedCommands
from crestline.gateway.schedulers.registry import SchedulerSetup, create_scheduler
from crestline.gateway.server import Server
from crestline.model import InvalidRequestError
from crestline.model.sbatch import parse_directives
from crestline.wire.compute import JobDescription
from harness.gateway import RunningGateway, in_thread
from harness.scripted_commands import ScriptedCommands, succeeded

MIB = 1024 * 1024
LARGE = GatewayConfig().max_body_size
LARGE_ROUTES = {
    "POST /compute/{system_name:str}/jobs",
    "POST /compute/{system_name:str}/jobs/batch",
    "POST /filesystem/{system_name:str}/ops/manifest",
    "POST /filesystem/{system_name:str}/ops/tar",
}
"""whose bodies may have scripts or lists of files"""
JOB_ROUTES = {
    f"{route}/{{resource_id:str}}{job}"
    for version in (1, 2)
    for route, job in [
        (f"POST /iri/api/v{version}/compute/job", ""),
        (f"PUT /iri/api/v{version}/compute/job", "/{job_id:str}"),
    ]
}
"""whose bodies may have one script"""
STREAMS = {
    "PUT /filesystem/{system_name:str}/ops/content",
    "PUT /filesystem/{system_name:str}/ops/tar",
    "POST /filesystem/{system_name:str}/ops/upload",
    "PUT /transfers/{system_name:str}/{transfer_id:str}/parts/{number:int}",
    "POST /iri/api/v1/filesystem/upload/{resource_id:str}",
    "POST /iri/api/v2/filesystem/upload/{resource_id:str}",
}
"""whose bodies are stored as they come"""
PUBLIC = {
    "POST /oauth2/token": 16 * 1024,
    "POST /page/sign-in": 4096,
    "POST /transfers/{system_name:str}/{transfer_id:str}/complete": 4 * MIB,  # read for a good signature alone
}
VALUES = {"system_name": "local", "job_id": "1", "key_id": "0" * 12, "transfer_id": "t" + "0" * 16, "number": "1"}
VALUES |= {"resource_id": "local"}
VALUES |= dict.fromkeys(("site_id", "incident_id", "event_id", "capability_id", "task_id"), "x")
VALUES |= dict.fromkeys(("project_id", "project_allocation_id", "user_allocation_id"), "x")
UNITS = 20
"""times that reading one MiB of small JSON values takes, for one turn of the loop; without limits it takes hundreds"""

pytestmark = pytest.mark.timeout(900)


def handlers() -> Iterator[tuple[str, HTTPRouteHandler]]:
    for route in create_app(GatewayRuntime(GatewayConfig())).routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                if not route.path.startswith("/docs"):
                    yield f"{method} {route.path}", handler


ROUTES = dict(sorted(handlers(), key=lambda route: route[0]))


def test_every_body_has_the_limit_that_its_purpose_needs() -> None:
    limits = {name: handler.resolve_request_max_body_size() for name, handler in ROUTES.items()}
    assert {name for name, limit in limits.items() if limit is None} == STREAMS
    changing = {name: limit for name, limit in limits.items() if not name.startswith(("GET", "DELETE"))}
    for name, limit in changing.items():
        if name not in STREAMS:
            large = MAX_JOB if name in JOB_ROUTES else LARGE if name in LARGE_ROUTES else None
            assert limit == (large or PUBLIC.get(name, MAX_FIELDS)), name


class Watchdog:
    """The processor time of the longest turn of an event loop: others may make the machine slow, not this."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._before = 0.0

    def attach(self) -> None:
        """Watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._before = time.thread_time()
        self._turn()

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._before)
        self._before = now
        self._loop.call_later(0.002, self._turn)


@dataclass
class Watched:
    gateway: RunningGateway
    watchdog: Watchdog
    http: httpx.Client


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("watched") / "home"
    server, watchdog, ready = Server(load_config(state_dir=home), port=0), Watchdog(), threading.Event()

    def on_ready() -> None:
        watchdog.attach()
        ready.set()

    thread = threading.Thread(target=server.run_forever, args=(on_ready,), daemon=True)
    thread.start()
    assert ready.wait(240)
    gateway = RunningGateway(server.url, home)
    with gateway.http() as http:
        http.get("/status/systems")  # what is made at first use is not a matter of size
        yield Watched(gateway, watchdog, http)
    server.should_exit = True
    thread.join(60)


def request_of(name: str) -> tuple[str, str]:
    """Method and path of a request to a route."""
    method, path = name.split(" ", 1)
    for parameter, value in VALUES.items():
        path = path.replace("{" + parameter + ":str}", value).replace("{" + parameter + ":int}", value)
    return method, path.replace("{name:str}", "app.js")


def unit() -> float:
    """Seconds that this machine needs for one MiB of small JSON values."""
    text = "[" + "{}," * (MIB // 3) + "{}]"
    begin = time.thread_time()
    json.loads(text)
    return time.thread_time() - begin


def filled(before: bytes, piece: bytes, after: bytes, size: int) -> bytes:
    return before + piece * ((size - len(before) - len(after)) // len(piece)) + after


def bodies(name: str, size: int) -> dict[str, bytes]:
    """The largest allowed, of the kinds that take longest to read."""
    path = b'"path":"/nowhere/x","sourcePath":"/nowhere/x","targetPath":"/nowhere/y","name":"n"'
    job = b'"workingDirectory":"/tmp","name":"n"'
    found = {
        "unknown objects": filled(b"{" + path + b',"x":[', b"{},", b"{}]}", size),
        "nested": filled(b'{"x":', b"[", b"", size),
        "text": filled(b'{"path":"', b"a,{[", b'"}', size),
        "no JSON": filled(b"", b"{},", b"", size),
    }
    if name in LARGE_ROUTES:
        names = b",".join(b'"%07x":""' % number for number in range(size // 13))
        found |= {
            "files": filled(b"{" + path + b',"files":[', b'"",', b'""]}', size),
            "mapping": b"{" + path + b',"files":{' + names + b"}}",
            "script": filled(b'{"job":{' + job + b',"script":"#!/bin/sh\\n', b"#SBATCH\\n", b'"}}', size),
            "script with braces": filled(b'{"job":{' + job + b',"script":"#!/bin/sh\\n', b"{},\\n", b'"}}', size),
            "environment": b'{"job":{' + job + b',"script":"#!/bin/sh\\n","env":{' + names + b"}}}",
            "jobs": filled(b'{"jobs":[', b'{"job":{}},', b'{"job":{}}]}', size),
            "empty jobs": filled(b'{"jobs":[', b"{},", b"{}]}", size),
            "keys": b"{" + names + b"}",
        }
    if name in JOB_ROUTES:
        names = b",".join(b'"V%07x":""' % number for number in range(size // 14))
        found |= {
            "executable": filled(b'{"executable":"#!/bin/sh\\n', b"#SBATCH\\n", b'"}', size),
            "arguments": filled(b'{"executable":"true","arguments":[', b'"",', b'""]}', size),
            "environment": b'{"executable":"true","environment":{' + names + b"}}",
            "attributes": b'{"executable":"true","attributes":{"custom_attributes":{' + names + b"}}}",
        }
    return found


@pytest.mark.parametrize("name", [name for name in ROUTES if name not in STREAMS])
def test_no_route_holds_the_loop_with_its_largest_input(watched: Watched, name: str) -> None:
    method, path = request_of(name)
    if method in ("GET", "DELETE"):
        inputs: dict[str, dict[str, Any]] = {
            "query": {"url": f"{path}?path=/nowhere&{'a&' * 30_000}"},
            "long path": {"url": f"{path}?path=/{'x/' * 30_000}"},
            "headers": {"url": f"{path}?path=/nowhere", "headers": {f"X-{number}": "v" * 200 for number in range(200)}},
        }
        if path.endswith("/events"):
            inputs = {}  # its answer has no end; its query is that of the job list
    else:
        size = ROUTES[name].resolve_request_max_body_size() or MIB
        inputs = {kind: {"url": path, "content": body} for kind, body in bodies(name, size).items()}
        if name == "POST /oauth2/token":
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            inputs = {"form": {"url": path, "content": filled(b"", b"a=b&", b"", size), "headers": form}}
    for kind, options in inputs.items():
        for _ in range(3):  # one turn may have to collect the garbage of the whole process, but not each
            watched.watchdog.longest = 0.0
            answer = watched.http.request(method, **options)
            assert answer.status_code < 500, (kind, answer.text[:300])
            if watched.watchdog.longest < UNITS * unit():
                break
        else:
            raise AssertionError(f"{kind} holds the loop: {answer.status_code}")


@pytest.mark.parametrize(("what", "lines"), [("head", -1), ("head", 3 * MIB), ("tail", 3 * MIB), ("head", -3 * MIB)])
@pytest.mark.parametrize("skip", [False, True])
def test_lines_of_large_files_are_not_counted_one_by_one(watched: Watched, what: str, lines: int, skip: bool) -> None:
    file = watched.gateway.home / "files" / "lines"
    file.write_bytes(b"\n" * (20 * MIB))
    watched.watchdog.longest = 0.0
    option = "skipTrailing" if what == "head" else "skipHeading"
    query: dict[str, Any] = {"path": str(file), "lines": lines, option: skip}
    answer = watched.http.get(f"/filesystem/local/ops/{what}", params=query)
    assert answer.status_code in (200, 413)
    assert watched.watchdog.longest < UNITS * unit()


def test_larger_bodies_are_refused_before_they_are_read(watched: Watched) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    token = httpx.post(watched.gateway.token_url, content=b"a=b&" * (4 * MIB), headers=form, timeout=60)
    assert token.status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (64 * 1024)

    mkdir = watched.http.post("/filesystem/local/ops/mkdir", content=chunks())
    assert mkdir.status_code == 413
    completion = httpx.post(f"{watched.gateway.url}/transfers/local/t{'0' * 16}/complete", content=b"<a/>" * MIB)
    assert completion.status_code == 403


def status_of(gateway: RunningGateway, method: str, path: str, *headers: str) -> int:
    """The status with which the gateway answers a head behind which no body comes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {gateway.token()}", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_every_route_refuses_heads_and_bodies_above_its_limits(watched: Watched) -> None:
    found: dict[str, tuple[int, ...]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for name, handler in ROUTES.items():
        method, path = request_of(name)
        limit = handler.resolve_request_max_body_size()
        is_limited = method not in ("GET", "DELETE") and name not in STREAMS
        expected[name] = (431, 431, 400, 400, *((413, 413) if is_limited else ()))
        found[name] = (
            status_of(watched.gateway, method, path, "X: " + "y" * 65536),
            431 if status_of(watched.gateway, method, f"{path}?{'y' * 65536}") in (414, 431) else 0,
            status_of(watched.gateway, method, path, "Content-Length: -1"),
            status_of(watched.gateway, method, path, "Content-Length: 1", "Transfer-Encoding: chunked"),
            *(
                status_of(watched.gateway, method, path, f"Content-Length: {size}")
                for size in ((limit or 0) + 1, 10**15)
                if is_limited
            ),
        )
    early = {
        "POST /transfers/{system_name:str}/{transfer_id:str}/complete": 403,  # the signature is wrong
        "POST /iri/api/v2/filesystem/resources": 200,
        "PUT /compute/{system_name:str}/jobs/{job_id:str}/hold": 404,
    }
    assert found == expected | {name: (*expected[name][:4], status, status) for name, status in early.items()}


PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n'
FILE = PART % (b"file", b'; filename="f"')
FORMS = {
    "before the first part": (b"", b"x" * 65534 + b"\r\n"),
    "another field": (PART % (b"x", b"") + b"\r\n", b"x" * 65536),
    "many fields": (b"", (PART % (b"x", b"") + b"\r\nx\r\n") * 1000),
    "many headers": (FILE, b"X: y\r\n" * 10_000),
    "one header": (FILE + b"X: ", b"y" * 65536),
    "a name": (b'--b\r\nContent-Disposition: form-data; name="file"; filename="', b"f" * 65536),
    "the file": (FILE + b"\r\n", b"x" * 65536),
    "empty files": (b"", (FILE + b"\r\n\r\n") * 1000),
    "behind the last part": (FILE + b"\r\nx\r\n--b--\r\n", b"x" * 65536),
}


@pytest.mark.parametrize("what", FORMS)
def test_a_form_of_an_upload_is_limited_as_a_whole(watched: Watched, what: str) -> None:
    begin, piece = FORMS[what]
    pieces = itertools.chain([begin], itertools.repeat(piece, 24 * MIB // len(piece)))
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    place = str(watched.gateway.home / "files")
    watched.watchdog.longest = 0.0
    answer = watched.http.post("/filesystem/local/ops/upload", params={"path": place}, content=pieces, headers=headers)
    took_a_file = what in ("empty files", "behind the last part")  # the first one; what follows is dropped
    assert answer.status_code in ((204,) if took_a_file else (400, 413)), answer.text
    assert watched.watchdog.longest < UNITS * unit()
    assert (Path(place) / "f").exists() is took_a_file
    (Path(place) / "f").unlink(missing_ok=True)


def test_a_locked_job_database_delays_no_other_request(tmp_path: Path) -> None:
    """Requests that need the lock wait without the loop, and are answered once it is free, or with 503."""
    with in_thread(tmp_path / "home") as gateway, gateway.http() as http, ThreadPoolExecutor(8) as pool:
        job = {"script": "#!/bin/sh\ntrue\n", "workingDirectory": "/tmp"}
        first = http.post("/compute/local/jobs", json={"job": job}).json()["jobId"]
        (file,) = (gateway.home / "private").rglob("jobs.db")
        for mode in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
            locker = sqlite3.connect(file, isolation_level=None, timeout=30)
            locker.execute(mode)
            submits = [pool.submit(http.post, "/compute/local/jobs", json={"job": job}) for _ in range(3)]
            cancel = pool.submit(http.delete, f"/compute/local/jobs/{first}")
            answered = 0
            while not any(each.done() for each in submits) and answered < 50:
                assert http.get("/status/liveness").status_code == 200
                assert http.get(f"/compute/local/jobs/{first}").status_code == 200
                answered += 1
            locker.execute("ROLLBACK")
            locker.close()
            assert answered >= 10
            statuses = [each.result().status_code for each in submits]
            assert set(statuses) <= {201, 503}
            assert cancel.result().status_code in (204, 503)
        assert http.post("/compute/local/jobs", json={"job": job}).status_code == 201


def test_a_program_that_keeps_the_job_database_to_itself_is_named(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home") as gateway, gateway.http() as http:
        job = {"script": "#!/bin/sh\ntrue\n", "workingDirectory": "/tmp"}
        (file,) = (gateway.home / "private").rglob("jobs.db")
        locker = sqlite3.connect(file, isolation_level=None, timeout=30)
        locker.execute("BEGIN IMMEDIATE")
        refused = http.post("/compute/local/jobs", json={"job": job})
        assert (refused.status_code, "jobs.db" in refused.text) == (503, True)
        assert int(refused.headers["Retry-After"]) > 0
        locker.execute("ROLLBACK")
        locker.close()


LONG_LINES = {
    "a word": "#SBATCH --comment=" + "x" * (3 * MIB),
    "words": "#SBATCH" + " -J x" * (MIB // 2),
    "lines": "\n".join(["#SBATCH -J x"] * (MIB // 4)),
    "PBS": "#PBS -v A=" + "x" * (3 * MIB),
}


@pytest.mark.anyio
@pytest.mark.parametrize("line", LONG_LINES)
@pytest.mark.parametrize("kind", ["slurm", "pbs"])
async def test_a_script_with_long_lines_is_not_read_in_the_loop(kind: str, line: str) -> None:
    """Nor in a time that grows by the square of their length, wherever it is read."""
    commands, watchdog = ScriptedCommands(lambda _: succeeded(b"7\n")), Watchdog()
    scheduler = create_scheduler(
        kind, SchedulerSetup("there", {}, InstrumentedCommands("there", commands), Path("/tmp"))
    )
    job = JobDescription(working_directory="/tmp", script=f"#!/bin/sh\n{LONG_LINES[line]}\n")
    watchdog.attach()
    begin = time.process_time()
    assert await scheduler.submit("alice", job) == "7"
    assert time.process_time() - begin < 500 * unit()  # by the square it takes 10,000
    assert watchdog.longest < UNITS * unit()


@pytest.mark.parametrize("line", ['#SBATCH --comment="' + "x" * MIB + '"', "#SBATCH -J 'x' " * 2000])
def test_long_lines_with_quotations_are_refused(line: str) -> None:
    with pytest.raises(InvalidRequestError, match="quotations need a line of at most 16384 characters"):
        parse_directives(f"#!/bin/sh\n{line}\n")


@pytest.mark.parametrize("large", [False, True])
def test_names_and_paths_of_a_job_have_a_limit(watched: Watched, large: bool) -> None:
    """Every list of jobs brings them to everybody."""
    text = "/tmp/" + "x" * (MIB if large else 5000)
    for field in ("account", "name", "standardOutput", "standardError", "standardInput", "constraints", "partition"):
        job = {"script": "#!/bin/sh\ntrue\n", "workingDirectory": "/tmp", field: text}
        refused = watched.http.post("/compute/local/jobs", json={"job": job})
        assert (refused.status_code, len(refused.text) < 1000) == (400, True), field
    for option in ("account", "job-name", "output", "error", "input", "chdir"):
        job = {"script": f"#!/bin/sh\n#SBATCH --{option}={text}\ntrue\n", "workingDirectory": "/tmp"}
        refused = watched.http.post("/compute/local/jobs", json={"job": job})
        assert (refused.status_code, len(refused.text) < 1000) == (400 if option != "chdir" else 201, True), option
