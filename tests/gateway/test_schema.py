"""schemathesis over the gateway's own OpenAPI document: no 5xx, no answer outside the schema."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.runtime import GatewayRuntime
from harness.gateway import RunningGateway, in_thread
from harness.operations import check_operation, each_operation

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that serves one scratch directory and nothing of the machine's own."""
    scratch = tmp_path_factory.mktemp("fuzzed")
    system = {"file_systems": [{"path": str(scratch), "default_work_dir": True}]}
    with in_thread(tmp_path_factory.mktemp("gateway") / "home", systems={"local": system}) as running:
        yield running


# What a running gateway serves at /docs/openapi.json; pytest needs it before one runs.
document = create_app(GatewayRuntime(GatewayConfig())).openapi_schema.to_schema()
schema = schemathesis.openapi.from_dict(document).exclude(path_regex="/events$")  # each answer would take a time-out


@pytest.fixture(scope="module")
def token(fuzzed: RunningGateway) -> str:
    return fuzzed.token()


@each_operation(schema)
def test_the_gateway_keeps_its_own_schema(operation: APIOperation, fuzzed: RunningGateway, token: str) -> None:
    def check(case: Case) -> None:
        if "system_name" in case.path_parameters:
            case.path_parameters["system_name"] = fuzzed.system
        headers = {"Authorization": f"Bearer {token}"}
        case.call_and_validate(base_url=fuzzed.url, headers=headers, checks=CHECKS)

    check_operation(operation, check, examples=30)
