"""schemathesis goes from endpoint to endpoint by what the answers name: no 5xx, no answer outside the schema, no hang.

`tests/gateway/test_schema.py` asks each endpoint by itself; here a job that was submitted is looked up, followed,
attached to and cancelled, a file that was written is read, packed and removed, in any order that the links allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from harness.gateway import RunningGateway, in_thread

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PATIENCE = 60
"""seconds after which an endpoint counts as hanging; none waits longer by itself than the half of it"""
SYSTEM = "local"


def document() -> dict[str, Any]:
    """The gateway's own description, with links from what names a thing to what works on it."""
    described = create_app(GatewayConfig(), lambda: "").openapi_schema.to_schema()
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


def explore(gateway: RunningGateway, scratch: Path, examples: int, steps: int) -> dict[str, int]:
    """Walk about; returns how often each kind of answer came."""
    token = gateway.token()
    seen: dict[str, int] = {}

    def place(drawn: object) -> str:
        """One of a few names, so that requests meet each other's files."""
        return f"{scratch}/{crc32(str(drawn).encode(errors='replace')) % 5}"

    for number in range(5):
        (scratch / str(number)).write_text("there before\n")

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"base_url": gateway.url, "headers": {"Authorization": f"Bearer {token}"}, "timeout": PATIENCE}

        def before_call(self, case: Case) -> None:
            """Most of what is drawn at random would end at the first door."""
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
            case.validate_response(response, checks=CHECKS)

    Walk.run(
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
    return seen


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(25, 12), pytest.param(3000, 30, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_chains_of_requests(fuzzed: RunningGateway, tmp_path_factory: Any, examples: int, steps: int) -> None:
    with fuzzed.http() as http:
        (system,) = http.get("/status/systems").json()["systems"]
    seen = explore(fuzzed, Path(system["fileSystems"][0]["path"]), examples, steps)
    assert sum(seen.values()) >= examples
    # The links were followed, and led to things that are there.
    assert any(kind.startswith("GET /compute/{system_name}/jobs/{job_id}") and kind.endswith("2xx") for kind in seen), (
        seen
    )
    assert any("/ops/" in kind and kind.startswith("GET") and kind.endswith("2xx") for kind in seen), seen
