"""The gateway against FirecREST's own OpenAPI document (recorded in `firecrest-openapi.json`).

A client generated from that document must find every endpoint here and be able to read every answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from harness.gateway import RunningGateway
from harness.waiting import until_blocking

RECORDED = json.loads(Path(__file__).with_name("firecrest-openapi.json").read_text())
METHODS = {"get", "post", "put", "delete"}
SHAPES: set[tuple[str, str]] = set()


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (method, re.sub(r"\{.*?\}", "{}", path).rstrip("/"))
        for path, item in document["paths"].items()
        for method in item
        if method in METHODS
    }


def check(answer: httpx.Response, path: str, status: int) -> Any:
    """Validate an answer against what FirecREST's document says of it."""
    method = answer.request.method.lower()
    assert answer.status_code == status, answer.text
    responses = RECORDED["paths"][path][method]["responses"]
    family = str(status) if str(status) in responses else f"{status // 100}XX"
    SHAPES.add((method, re.sub(r"\{.*?\}", "{}", path).rstrip("/")))
    content = responses[family].get("content", {}).get("application/json")
    if content is None or not content.get("schema"):
        return None
    schema = content["schema"] | {"components": RECORDED["components"]}
    jsonschema.validate(answer.json(), schema)
    return answer.json()


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Any:
    with gateway.http() as client:
        yield client


@pytest.fixture(scope="module")
def work(gateway: RunningGateway, http: httpx.Client) -> str:
    path = f"{gateway.home}/files/schema"
    assert http.post("/filesystem/local/ops/mkdir", json={"path": path}).status_code == 201
    return path


def test_every_endpoint_is_there(http: httpx.Client) -> None:
    ours = http.get("/docs/openapi.json").json()
    assert operations(RECORDED) - operations(ours) == set()


def test_every_query_parameter_is_there(http: httpx.Client) -> None:
    ours = http.get("/docs/openapi.json").json()
    by_path = {re.sub(r"\{.*?\}", "{}", path).rstrip("/"): item for path, item in ours["paths"].items()}
    for path, item in RECORDED["paths"].items():
        for method, operation in item.items():
            expected = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
            there = by_path[re.sub(r"\{.*?\}", "{}", path).rstrip("/")][method].get("parameters", [])
            assert expected - {each["name"] for each in there} == set(), (method, path)


@pytest.mark.parametrize("what", ["nodes", "reservations", "partitions", "userinfo"])
def test_status_of_a_system(http: httpx.Client, what: str) -> None:
    check(http.get(f"/status/local/{what}"), f"/status/{{system_name}}/{what}", 200)


def test_systems_and_liveness(http: httpx.Client) -> None:
    check(http.get("/status/systems"), "/status/systems", 200)
    check(http.get("/status/liveness/"), "/status/liveness/", 200)


def test_jobs(http: httpx.Client, work: str) -> None:
    jobs = "/compute/{system_name}/jobs"
    script = "#!/bin/sh\nuntil [ -e go ]; do sleep 0.05; done\n"
    body = {"job": {"name": "schema", "workingDirectory": work, "script": script, "env": {"A": "1,2"}}}
    job_id = check(http.post("/compute/local/jobs", json=body), jobs, 201)["jobId"]
    url = f"/compute/local/jobs/{job_id}"

    def state() -> str:
        return str(check(http.get(url), f"{jobs}/{{job_id}}", 200)["jobs"][0]["status"]["state"])

    until_blocking(lambda: state() == "RUNNING")
    check(http.get("/compute/local/jobs", params={"name": "schema", "allusers": True}), jobs, 200)
    check(http.get(f"{url}/metadata"), f"{jobs}/{{job_id}}/metadata", 200)
    check(http.put(f"{url}/attach", json={"command": "touch go"}), f"{jobs}/{{job_id}}/attach", 204)
    until_blocking(lambda: state() != "RUNNING")
    assert state() == "COMPLETED"
    check(http.delete(url), f"{jobs}/{{job_id}}", 204)
    check(http.get("/compute/local/jobs/999999"), f"{jobs}/{{job_id}}", 404)


def test_operations_on_files(http: httpx.Client, work: str) -> None:
    ops = "/filesystem/{system_name}/ops"

    def call(method: str, name: str, status: int, **arguments: Any) -> Any:
        return check(http.request(method, f"/filesystem/local/ops/{name}", **arguments), f"{ops}/{name}", status)

    path = f"{work}/file"
    call("POST", "upload", 204, params={"path": work}, files={"file": ("file", b"one\ntwo\n")})
    call("GET", "ls", 200, params={"path": work, "showHidden": "true", "numericUid": "true"})
    for name in ("head", "tail", "view", "checksum", "file", "stat"):
        call("GET", name, 200, params={"path": path})
    assert http.get("/filesystem/local/ops/download", params={"path": path}).content == b"one\ntwo\n"
    call("GET", "download", 404, params={"path": f"{work}/nope"})
    call("POST", "mkdir", 201, json={"path": f"{work}/a/b", "parent": True})
    call("POST", "symlink", 201, json={"path": path, "link_path": f"{work}/link"})
    call("PUT", "chmod", 200, json={"sourcePath": path, "mode": "640"})
    owner = http.get("/filesystem/local/ops/ls", params={"path": path}).json()["output"][0]["user"]
    call("PUT", "chown", 200, json={"source_path": path, "owner": owner})
    call("POST", "compress", 204, json={"path": path, "target_path": f"{work}/file.tar.gz"})
    call("POST", "extract", 204, json={"path": f"{work}/file.tar.gz", "targetPath": f"{work}/a"})
    call("DELETE", "rm", 204, params={"path": f"{work}/a"})
    call("GET", "ls", 404, params={"path": f"{work}/a"})


def test_transfers(http: httpx.Client, work: str) -> None:
    transfer = "/filesystem/{system_name}/transfer"

    def call(method: str, name: str, status: int, **arguments: Any) -> Any:
        url = f"/filesystem/local/transfer/{name}"
        job = check(http.request(method, url, **arguments), f"{transfer}/{name}", status)["transferJob"]
        return job["jobId"]

    def finish(job_id: str) -> None:
        path = "/compute/{system_name}/jobs/{job_id}"

        def state() -> str:
            answer = check(http.get(f"/compute/local/jobs/{job_id}"), path, 200)
            return str(answer["jobs"][0]["status"]["state"])

        until_blocking(lambda: state() not in ("PENDING", "RUNNING"))
        assert state() == "COMPLETED"

    http.post("/filesystem/local/ops/upload", params={"path": work}, files={"file": ("data", b"data")})
    directives = {"transferMethod": "s3"}
    finish(call("POST", "download", 201, json={"path": f"{work}/data", "transferDirectives": directives}))
    directives = {"transfer_method": "s3", "file_size": 5}
    call("POST", "upload", 201, json={"path": f"{work}/up", "transfer_directives": directives, "account": "a"})
    finish(call("POST", "cp", 201, json={"path": f"{work}/data", "targetPath": f"{work}/copy"}))
    finish(call("POST", "mv", 201, json={"path": f"{work}/copy", "targetPath": f"{work}/moved"}))
    finish(call("POST", "compress", 201, json={"path": f"{work}/moved", "targetPath": f"{work}/moved.tgz"}))
    finish(call("POST", "extract", 201, json={"path": f"{work}/moved.tgz", "targetPath": work}))
    finish(call("DELETE", "rm", 200, params={"path": f"{work}/moved"}))


def test_every_endpoint_was_checked() -> None:
    assert operations(RECORDED) - SHAPES == set()
