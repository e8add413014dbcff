"""The stand-in of an IRI facility, measured by the API's own documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from schemathesis.checks import CHECKS

from crestline.testing import iri
from crestline.testing.iri import TOKEN, Facility
from harness.iri_api import VERSIONS
from harness.waiting import until_blocking

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CHECKED = [
    each for each in CHECKS.get_all() if each.__name__ in ("response_schema_conformance", "status_code_conformance")
]


def fields_of(operation: str, place: Path) -> dict[str, Any]:
    """What an operation on files needs beside its path."""
    more: dict[str, dict[str, Any]] = {
        "head": {"lines": 1}, "tail": {"lines": 1}, "view": {"size": 10, "offset": 0}, "chmod": {"mode": "600"},
        "symlink": {"link_path": str(place / "link")}, "cp": {"target_path": str(place / "copy")},
        "mv": {"target_path": str(place / "moved")}, "compress": {"target_path": str(place / "made.tgz")},
        "extract": {"path": str(place / "made.tgz"), "target_path": str(place / "extracted")},
        "mkdir": {"path": str(place / "directory")}, "rm": {"path": str(place / "moved")},
        "upload": {"path": str(place / "uploaded")},
    }  # fmt: skip
    return {"path": str(place / "file")} | more.get(operation, {})


@VERSIONS
def test_every_operation_answers_as_its_document_says(tmp_path: Path, version: int) -> None:
    document = schemathesis.openapi.from_path(Path(iri.__file__).with_name(f"openapi-v{version}.json"))
    (tmp_path / "file").write_text("one\ntwo\n")
    with iri.running(tmp_path) as facility:
        facility.status = "degraded"
        spec = {"executable": "sleep", "arguments": ["60"]}
        job = post(facility, f"/api/v{version}/compute/job/{facility.compute}", spec)["id"]
        task = httpx.request(
            "GET" if version == 1 else "POST",
            f"{facility.url}/api/v{version}/filesystem/ls/{facility.storage}",
            headers=HEADERS,
            **({"params": {"path": str(tmp_path)}} if version == 1 else {"json": {"path": str(tmp_path)}}),
        ).json()["task_id"]
        ids = {
            "job_id": job, "task_id": task, "site_id": "1", "incident_id": "1", "event_id": "1",
            "capability_id": "Pearl", "project_id": "p%2F0", "project_allocation_id": "1", "user_allocation_id": "1",
        }  # fmt: skip
        for each in document.get_all_operations():
            operation = each.ok()
            name = str(operation.definition.raw["operationId"])
            is_compute = "/compute/" in operation.path or "/status/" in operation.path
            known = ids | {"resource_id": facility.compute if is_compute else facility.storage}
            case = operation.Case(path_parameters={key: known[key] for key in known if f"{{{key}}}" in operation.path})
            if "/filesystem/" in operation.path and "{resource_id}" in operation.path:
                fields = fields_of(name, tmp_path)
                if name == "upload":
                    case.query, case.body = {"path": fields["path"]}, {"file": b"content"}
                    case.media_type = "multipart/form-data"
                elif operation.method.upper() in ("GET", "DELETE"):
                    case.query = fields
                else:
                    case.body, case.media_type = fields, "application/json"
            elif name in ("launchJob", "updateJob"):
                case.body, case.media_type = {"executable": "true"}, "application/json"
            response = case.call(base_url=facility.url, headers=HEADERS)
            if name == "updateJob":
                assert response.status_code == 422
                continue
            assert response.status_code < 300, (name, response.status_code, response.text)
            case.validate_response(response, checks=CHECKED)


def post(facility: Facility, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(f"{facility.url}{path}", json=body, headers=HEADERS).json()
    return answer


@VERSIONS
def test_a_job_has_what_is_around_its_program(tmp_path: Path, version: int) -> None:
    (tmp_path / "in").write_text("from the file\n")
    spec = {
        "executable": "cat", "pre_launch": "echo before", "post_launch": "echo after $status", "launcher": "srun",
        "stdin_path": str(tmp_path / "in"), "stdout_path": str(tmp_path / "out"), "directory": str(tmp_path),
    }  # fmt: skip
    with iri.running(tmp_path) as facility:
        base = f"/api/v{version}/compute"
        job = post(facility, f"{base}/job/{facility.compute}", spec)["id"]
        url = f"{facility.url}{base}/status/{facility.compute}/{job}"
        until_blocking(lambda: httpx.get(url, headers=HEADERS).json()["status"]["state"] == "completed")
    assert (tmp_path / "out").read_text() == "before\nfrom the file\nafter 0\n"


@VERSIONS
@pytest.mark.parametrize("body", ["[1]", "{", "7", "null"])
def test_a_body_other_than_an_object_is_refused(tmp_path: Path, version: int, body: str) -> None:
    with iri.running(tmp_path) as facility:
        url = f"{facility.url}/api/v{version}/compute/job/{facility.compute}"
        answer = httpx.post(url, content=body, headers=HEADERS | {"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert json.loads(answer.text)["status"] == 400
