"""schemathesis goes from endpoint to endpoint by what the answers name: no 5xx, no answer outside the schema, no hang.

`tests/gateway/test_schema.py` asks each endpoint by itself; here a job that was submitted is looked up, followed,
attached to and cancelled, a file that was written is read, packed and removed, in any order that the links allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.runtime import GatewayRuntime
from harness.gateway import RunningGateway, in_thread

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PATIENCE = 60
"""seconds after which an endpoint counts as hanging; none waits longer by itself than the half of it"""
SYSTEM = "local"


def document() -> dict[str, Any]:
    """The gateway's own description, with links from what names a thing to what works on it."""
    described = create_app(GatewayRuntime(GatewayConfig())).openapi_schema.to_schema()
    job = {"system_name": SYSTEM, "job_id": "$response.body#/jobId"}
    transfer = {"system_name": SYSTEM, "job_id": "$response.body#/transferJob/jobId"}
    entry = "$request.query.path"
    for path, method, status, parameters in (
        ("/compute/{system_name}/jobs", "post", "201", job),
        ("/filesystem/{system_name}/transfer/cp", "post", "201", transfer),
        ("/filesystem/{system_name}/transfer/upload", "post", "201", transfer),
        ("/filesystem/{system_name}/transfer/download", "post", "201", transfer),
    ):
        _link(described, (path, method, status), "/compute/{system_name}/jobs/{job_id}", ("get", "delete"), parameters)
        onward = "/compute/{system_name}/jobs/{job_id}/metadata"
        _link(described, (path, method, status), onward, ("get",), parameters)
    _link(described, ("/keys", "post", "201"), "/keys/{key_id}", ("delete",), {"key_id": "$response.body#/keyId"})
    for name in ("ls", "head", "tail", "view", "checksum", "stat", "file", "download", "content", "tar"):
        target = f"/filesystem/{{system_name}}/ops/{name}"
        parameters = {"system_name": SYSTEM, "path": entry}
        _link(described, ("/filesystem/{system_name}/ops/content", "put", "204"), target, ("get",), parameters)
    gone = {"system_name": SYSTEM, "path": entry}
    source = ("/filesystem/{system_name}/ops/content", "put", "204")
    _link(described, source, "/filesystem/{system_name}/ops/rm", ("delete",), gone)
    return described


def _link(
    described: dict[str, Any], source: tuple[str, str, str], target: str, methods: tuple[str, ...], parameters: Any
) -> None:
    path, method, status = source
    answer = described["paths"][path][method]["responses"][status]
    for each in methods:
        reference = "#/paths/" + target.replace("/", "~1") + "/" + each
        answer.setdefault("links", {})[f"{each} {target}"] = {"operationRef": reference, "parameters": parameters}


schema = schemathesis.openapi.from_dict(document()).exclude(path_regex="/events$")  # an answer without an end


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that serves one scratch directory and nothing of the machine's own."""
    scratch = tmp_path_factory.mktemp("chained")
    system = {"file_systems": [{"path": str(scratch), "default_work_dir": True}]}
    with in_thread(tmp_path_factory.mktemp("gateway") / "home", systems={SYSTEM: system}) as running:
        yield running


def explore(gateway: RunningGateway, scratch: Path, walks: int, steps: int) -> tuple[dict[str, int], list[str]]:
    """Walk about; returns how often each kind of answer came, and which ones were wrong."""
    token = gateway.token()
    seen: dict[str, int] = {}
    wrong: list[str] = []

    def place(drawn: object) -> str:
        """One of a few names, so that requests meet each other's files."""
        return f"{scratch}/{crc32(str(drawn).encode(errors='replace')) % 5}"

    for number in range(5):
        (scratch / str(number)).write_text("there before\n")

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"base_url": gateway.url, "headers": {"Authorization": f"Bearer {token}"}, "timeout": PATIENCE}

        def before_call(self, case: Case) -> None:
            """Most of what is drawn at random would be refused by the first check."""
            if "system_name" in case.path_parameters:
                case.path_parameters["system_name"] = SYSTEM
            if isinstance(case.query, dict):
                case.query.pop("wait", None)
                if "path" in case.query and not str(case.query["path"]).startswith(str(scratch)):
                    case.query["path"] = place(case.query["path"])
            if isinstance(case.body, dict):
                if isinstance(case.body.get("job"), dict):
                    case.body["job"] |= {"workingDirectory": str(scratch), "script": "#!/bin/sh\n", "scriptPath": None}
                if "path" in case.body:
                    case.body["path"] = place(case.body["path"])
                if "transferDirectives" in case.body:
                    case.body["transferDirectives"] = {"transferMethod": "s3", "fileSize": 5}

        def after_call(self, response: Response, case: Case) -> None:
            kind = f"{case.method} {case.path} {response.status_code // 100}xx"
            seen[kind] = seen.get(kind, 0) + 1

        def validate_response(self, response: Response, case: Case, additional_checks: Any = (), **_: Any) -> None:
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as failure:  # told at the end: a walk that is repeated finds other jobs and files
                wrong.append("\n".join(str(each) for each in failure.exceptions) + f"\n{case.as_curl_command()}")

    for number in range(walks):
        # Where links lead depends on what the gateway made, and Hypothesis may notice: then the next walk begins.
        with suppress(FlakyStrategyDefinition):
            seed(number)(Walk).run(
                settings=settings(
                    max_examples=10,
                    stateful_step_count=steps,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
            )
    return seen, wrong


@pytest.mark.parametrize(
    ("walks", "steps"),
    [(2, 12), pytest.param(300, 30, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_chains_of_requests(fuzzed: RunningGateway, walks: int, steps: int) -> None:
    with fuzzed.http() as http:
        (system,) = http.get("/status/systems").json()["systems"]
    seen, wrong = explore(fuzzed, Path(system["fileSystems"][0]["path"]), walks, steps)
    assert wrong == []
    # The links were followed, and led to things that are there.
    good = [kind for kind in seen if kind.endswith("2xx")]
    assert sum(seen.values()) >= 10 * walks
    assert any(kind.startswith("GET /compute/{system_name}/jobs/{job_id}") for kind in good), seen
    assert any(kind.startswith("GET") and "/ops/" in kind for kind in good), seen


@pytest.mark.parametrize("shape", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_body_that_is_nested_without_end(fuzzed: RunningGateway, shape: str, depth: int) -> None:
    """Whether the reader of JSON or one of ours gives up first."""
    nested = shape * depth + "1" + {"[": "]", '{"a":': "}"}[shape] * depth
    with fuzzed.http() as http:
        for method, url, body in (
            ("POST", f"/compute/{SYSTEM}/jobs", f'{{"job": {{"x": {nested}}}}}'),
            ("POST", f"/filesystem/{SYSTEM}/transfer/upload", f'{{"path": "/x", "transferDirectives": {nested}}}'),
            ("PUT", f"/filesystem/{SYSTEM}/ops/chmod", f'{{"path": {nested}, "mode": "600"}}'),
            ("POST", "/keys", f'{{"name": {nested}}}'),
        ):
            answer = http.request(method, url, content=body, headers={"Content-Type": "application/json"})
            refused = 413 if len(body) > MAX_FIELDS and "/compute/" not in url else 400
            assert answer.status_code == refused, (url, answer.status_code, answer.text[:200])
