"""Requests to the IRI API that are meant to break it: each is refused with a problem that says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from crestline.gateway.iri import tasks
from harness.gateway import RunningGateway, in_thread

VERSIONS = pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
DEPTHS = (400, 650, 1000, 2000, 30_000)
"""around what the stack of Python holds, in functions of one and of two frames for each level"""
SIZES = [0, -1, 1.5, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**30, 1e308, "5", True]
TEXTS = [
    *("x" * size for size in (256, 5000, 60_000)), "\0", "\n", "\ufffd", "\u2028", "a/b", "..", ".", "~", "$(x)", "%",
    "%s", "'", '"', "\\", "-x", "--", "a,b", "*", "\x7f", "é", "𝄞", "1+1", "[1-2]", "1_[0-99999999999]", "9" * 30, "-1",
]  # fmt: skip
PATHS = [
    "GET /compute/status/local/{}", "PUT /compute/job/local/{}", "DELETE /compute/cancel/local/{}",
    "GET /compute/status/{}/1", "POST /compute/job/{}", "POST /compute/status/{}",
    "GET /compute/status/local/1?historical={}",
    "GET /task/{}", "DELETE /task/{}", "GET /status/resources/{}", "GET /status/events/{}", "GET /status/incidents/{}",
    "GET /status/resources?offset={}", "GET /status/resources?name={}", "GET /status/resources?resource_type={}",
    "GET /status/resources?modified_since={}", "GET /status/incidents?from={}", "GET /status/events?time={}",
    "GET /facility/sites/{}", "GET /account/capabilities/{}", "GET /account/capabilities?offset={}",
    "GET /account/projects/{}", "GET /account/projects/{}/project_allocations/x/user_allocations/y",
    "GET /storage/locations/{}", "GET /storage/locations/local?logicalpath={}", "GET /filesystem/ls/{}?path=/",
    "GET /filesystem/ls/local?path={}", "GET /filesystem/head/local?path=/x&lines={}",
    "DELETE /filesystem/rm/local?path={}",
    "GET /filesystem/view/local?path=/x&offset={}", "POST /filesystem/upload/local?path={}",
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: Path) -> Iterator[RunningGateway]:
    systems = {"local": {"file_systems": [{"path": str(served), "default_work_dir": True}]}}
    with in_thread(tmp_path_factory.mktemp("iri") / "home", systems=systems) as running:
        yield running


@pytest.fixture
def http(gateway: RunningGateway, version: int) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    url = f"{gateway.url}/iri/api/v{version}"
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def fault(answer: httpx.Response) -> str:
    """What is wrong with an answer; empty for one that is as it should be."""
    if answer.status_code < 400:
        return ""
    kind = answer.headers.get("content-type", "")
    if answer.status_code < 500 and kind.startswith("application/problem+json") and answer.json()["detail"]:
        return ""
    return f"{answer.status_code} {answer.text[:200]} to {answer.request.method} {str(answer.request.url)[:120]}"


def faults(answers: Iterator[httpx.Response]) -> list[str]:
    return [found for each in answers if (found := fault(each))]


def submit(http: httpx.Client, job: dict[str, Any], **headers: str) -> httpx.Response:
    """A job that would do nothing if it were not refused."""
    return http.post("/compute/job/local", json={"executable": "true"} | job, headers=headers)


@VERSIONS
def test_deep_json(http: httpx.Client, version: int) -> None:
    calls = ["compute/job", "compute/status", "filesystem/mkdir", "filesystem/compress"]
    calls += ["filesystem/ls", "filesystem/rm"] if version >= 2 else []
    fields = ["path", "compression", "name", "resources", "unknown"]

    def answers() -> Iterator[httpx.Response]:
        for depth in DEPTHS:
            for deep in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
                for content in (deep, *(f'{{"executable":"true","{field}":{deep}}}' for field in fields)):
                    for call in calls:
                        yield http.post(f"/{call}/local", content=content)

    assert faults(answers()) == []


@VERSIONS
def test_numbers_of_any_size_in_a_job(http: httpx.Client, version: int) -> None:
    fields = (
        "node_count", "process_count", "processes_per_node", "cpu_cores_per_process", "gpu_cores_per_process", "memory"
    )  # fmt: skip

    def answers() -> Iterator[httpx.Response]:
        yield submit(http, {"resources": dict.fromkeys(fields, 2**53), "attributes": {"duration": 2**53}})
        for size in SIZES:
            yield submit(http, {"resources": {"processes_per_node": size, "node_count": 10**6}})
            yield submit(http, {"attributes": {"duration": size, "queue_name": "nosuch"}})
            yield from (submit(http, {"resources": {field: size, "node_count": 10**6}}) for field in fields)

    assert faults(answers()) == []


@VERSIONS
def test_texts_of_any_kind_in_a_job(http: httpx.Client, version: int) -> None:
    fields = (
        "directory", "name", "stdin_path", "stdout_path", "stderr_path", "pre_launch", "post_launch", "launcher",
        "executable",
    )  # fmt: skip
    options = ("time", "nodes", "array", "dependency", "mem", "output", "begin", "signal", "export", "chdir")

    def answers() -> Iterator[httpx.Response]:
        for text in TEXTS:
            # A queue that does not exist: none of these jobs begins.
            for job in (
                *({field: text, "attributes": {"queue_name": "nosuch"}} for field in fields),
                *({"attributes": {field: text, "queue_name": "nosuch"}} for field in ("account", "reservation_id")),
                *({"attributes": {"custom_attributes": {each: text}, "queue_name": "nosuch"}} for each in options),
                {"attributes": {"queue_name": text}},
                {"attributes": {"custom_attributes": {text: "1"}, "queue_name": "nosuch"}},
                {"environment": {text: text}, "attributes": {"queue_name": "nosuch"}},
            ):
                yield submit(http, job)

    assert faults(answers()) == []


@VERSIONS
def test_names_and_paths_of_a_job_have_a_limit(http: httpx.Client, version: int) -> None:
    """Every list of jobs brings them."""
    text = "/tmp/" + "x" * 5000
    for field in ("directory", "name", "stdin_path", "stdout_path", "stderr_path"):
        assert submit(http, {field: text}).status_code == 400, field
    for field in ("account", "queue_name", "reservation_id"):
        assert submit(http, {"attributes": {field: text}}).status_code == 400, field


@VERSIONS
def test_filters_of_jobs_find_the_callers_own_or_nothing(http: httpx.Client, version: int) -> None:
    for text in TEXTS:
        for field in ("name", "account", "queue_name", "state"):
            answer = http.post("/compute/status/local?historical=true", json={field: text})
            assert (answer.status_code, answer.json()) == (200, []), (field, text)


@VERSIONS
def test_paths_and_queries_of_any_kind(http: httpx.Client, version: int) -> None:
    def answers() -> Iterator[httpx.Response]:
        for each in PATHS:
            method, path = each.split()
            for text in ["", *TEXTS, "\ud800"]:
                word = quote(text[:6000], safe="", errors="surrogatepass")
                yield http.request(method, path.format(word), content=b"{}" if method in ("PUT", "POST") else None)
        for query in ("%ff", "%00", "%", "%zz", "&&&", "=", "path=%ff", "&".join(f"a{n}=1" for n in range(500))):
            yield http.get(f"/status/resources?{query}")
            yield http.get(f"/filesystem/ls/local?{query}")
        for when in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:60Z"):
            yield http.get("/status/incidents", params=dict.fromkeys(("from", "to", "time", "modified_since"), when))
            yield http.get("/status/resources", params={"modified_since": when})

    assert faults(answers()) == []


@VERSIONS
def test_forms_and_places_of_uploads(http: httpx.Client, version: int, served: Path, tmp_path: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../f"\r\n\r\nabc\r\n'
    forms = [
        ("multipart/form-data", b"x"), ("multipart/form-data; boundary=x", b""), ("text/plain", b"x"),
        ("multipart/form-data; boundary=x", part), (f"multipart/form-data; boundary={'b' * 500}", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 20_000), ("", b""),
        ("multipart/form-data; boundary=x", part + b"--x--\r\n"),
    ]  # fmt: skip
    places = [str(tmp_path / "f"), "relative", "", "\0", f"{served}/{'n' * 300}", str(served), f"{served}/../f"]

    def answers() -> Iterator[httpx.Response]:
        for kind, content in forms:
            for place in places:
                answer = http.post(
                    "/filesystem/upload/local", params={"path": place}, content=content, headers={"Content-Type": kind}
                )
                if answer.status_code == 200:
                    task = http.get(f"/task/{answer.json()['task_id']}").json()
                    assert task["status"] == "failed", (place, task)
                yield answer

    assert faults(answers()) == []
    assert [*served.iterdir(), *tmp_path.iterdir()] == []


def test_keys_of_any_kind(gateway: RunningGateway) -> None:
    url, authorization = f"{gateway.url}/iri/api/v2/compute/job/local", f"Bearer {gateway.token()}"
    for key in (b"", b"x" * 5000, b"a\tb", "é".encode(), b"\xff"):
        headers = [(b"Authorization", authorization.encode()), (b"Idempotency-Key", key)]
        answer = httpx.post(url, json={"executable": "true"}, headers=headers, trust_env=False)
        assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (400, True), key


@VERSIONS
def test_too_many_tasks_are_refused_until_some_have_ended(
    http: httpx.Client, version: int, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MOST_WAITING", 2)
    hole = served / "hole"
    with hole.open("wb") as file:
        file.truncate(1 << 40)
    method, body = ("GET", None) if version == 1 else ("POST", json.dumps({"path": str(hole)}))
    answers = [
        http.request(method, "/filesystem/checksum/local", params={"path": str(hole)}, content=body) for _ in range(3)
    ]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 0
    for answer in answers[:2]:
        assert http.delete(f"/task/{answer.json()['task_id']}").status_code == 200
    hole.unlink()
    upload = http.post("/filesystem/upload/local", params={"path": str(served / "f")}, files={"file": b"x"})
    assert upload.status_code == 200
    (served / "f").unlink()
