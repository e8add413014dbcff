"""schemathesis over the API's own documents, as its authors run it: with unknown ids, and with real ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.schemas import APIOperation

from crestline.testing import iri
from harness.gateway import RunningGateway, in_thread
from harness.operations import check_operation, each_operation

DOCUMENTS = Path(iri.__file__).parent
EXCLUDED = {"content_type_conformance", "unsupported_method", "ignored_auth"}
"""by the API's authors"""
# The token is put into every request, also into the one that was made without.
EXCLUDED |= {"missing_required_header"}
NOT_FOR_REAL_IDS = {"positive_data_acceptance", "negative_data_rejection"}
"""a program that does not exist, or a job that cannot be changed, fits the document and is refused"""

OLDER = schemathesis.openapi.from_path(DOCUMENTS / "openapi-v1.json")
NEWER = schemathesis.openapi.from_path(DOCUMENTS / "openapi-v2.json")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that serves one scratch directory and nothing of the machine's own."""
    scratch = tmp_path_factory.mktemp("fuzzed")
    system = {"file_systems": [{"path": str(scratch), "default_work_dir": True}]}
    with in_thread(tmp_path_factory.mktemp("gateway") / "home", systems={"local": system}) as running:
        yield running


@pytest.fixture
def token(fuzzed: RunningGateway) -> str:
    return fuzzed.token()  # for each test: all together take longer than one lasts


def check(case: Case, gateway: RunningGateway, token: str, ids: dict[str, str]) -> None:
    for name, value in (case.path_parameters or {}).items():
        if name in ids:
            case.path_parameters[name] = ids[name]
        elif not re.fullmatch(r"[A-Za-z0-9._~-]+", str(value)):
            case.path_parameters[name] = "1"
    headers = {name: re.sub(r"[^ -~]", "", str(value)) for name, value in (case.headers or {}).items()}
    case.headers = headers | {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    response = case.call(base_url=f"{gateway.url}/iri", timeout=60)
    assert response.status_code != 401
    excluded = EXCLUDED | (NOT_FOR_REAL_IDS if ids else set())
    case.validate_response(response, excluded_checks=[each for each in CHECKS.get_all() if each.__name__ in excluded])


@each_operation(OLDER)
def test_v1_with_unknown_ids(operation: APIOperation, fuzzed: RunningGateway, token: str) -> None:
    check_operation(operation, lambda case: check(case, fuzzed, token, {}), examples=20)


@each_operation(OLDER)
def test_v1_with_real_ids(operation: APIOperation, fuzzed: RunningGateway, token: str) -> None:
    check_operation(operation, lambda case: check(case, fuzzed, token, {"resource_id": "local"}), examples=5)


@each_operation(NEWER)
def test_v2_with_unknown_ids(operation: APIOperation, fuzzed: RunningGateway, token: str) -> None:
    check_operation(operation, lambda case: check(case, fuzzed, token, {}), examples=20)


@each_operation(NEWER)
def test_v2_with_real_ids(operation: APIOperation, fuzzed: RunningGateway, token: str) -> None:
    check_operation(operation, lambda case: check(case, fuzzed, token, {"resource_id": "local"}), examples=5)


def test_every_operation_of_the_documents_is_served(fuzzed: RunningGateway, token: str) -> None:
    absent = []
    headers = {"Authorization": f"Bearer {token}"}
    for document in (OLDER, NEWER):
        for each in document.get_all_operations():
            operation: Any = each.ok()
            url = f"{fuzzed.url}/iri{re.sub(r'{.*?}', 'nosuch', operation.path)}"
            answer = httpx.request(operation.method, url, headers=headers)
            if answer.status_code == 405 or '"detail":"Not Found"' in answer.text:
                absent.append((operation.method, operation.path))
    assert absent == []


@pytest.mark.parametrize(
    ("path", "official"),
    [("/openapi.json", OLDER), ("/api/v1/openapi.json", OLDER), ("/api/v2/openapi.json", NEWER)],
    ids=["root", "v1", "v2"],
)
def test_the_gateways_own_document_has_every_operation(fuzzed: RunningGateway, path: str, official: Any) -> None:
    document = httpx.get(f"{fuzzed.url}/iri{path}").json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["servers"] == [{"url": f"{fuzzed.url}/iri"}]
    own = operations(document)
    wanted = operations(official.raw_schema)
    assert wanted.keys() - own.keys() == set()
    assert own.keys() - wanted.keys() <= {"whoami"}
    for name, (method, where, query) in wanted.items():
        assert own[name][:2] == (method, where)
        assert own[name][2] >= query, name


def operations(document: dict[str, Any]) -> dict[str, tuple[str, str, set[str]]]:
    """Of each operation its method, path and parameters."""
    return {
        operation["operationId"]: (method, path, {each["name"] for each in operation.get("parameters", [])})
        for path, entry in document["paths"].items()
        for method, operation in entry.items()
        if method != "parameters"
    }
