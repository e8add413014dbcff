"""`/docs/openapi.json` is a valid document, from which a client can be generated that works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from harness.gateway import RunningGateway

# S3's completion of an upload is XML, which that generator does not know.
_NOT_GENERATED = {"POST /transfers/{system_name}/{transfer_id}/complete"}


@pytest.fixture(scope="module")
def document(gateway: RunningGateway) -> dict[str, object]:
    with gateway.http() as http:
        found: dict[str, object] = http.get("/docs/openapi.json").json()
    return found


def test_the_document_is_valid(document: dict[str, object]) -> None:
    errors = [f"{list(each.absolute_path)}: {each.message}" for each in OpenAPIV31SpecValidator(document).iter_errors()]
    assert errors == []


def test_a_generated_client_works(document: dict[str, object], gateway: RunningGateway, tmp_path: Path) -> None:
    file, client = tmp_path / "openapi.json", tmp_path / "client"
    file.write_text(json.dumps(document))
    program = Path(sys.executable).with_name("openapi-python-client")
    command = [program, "generate", "--path", file, "--output-path", client, "--meta", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    lost = {
        line.split("WARNING parsing ")[1].split(" within")[0] for line in said.splitlines() if "will not be" in line
    }
    assert lost == _NOT_GENERATED, said
    script = (
        "import sys; from client import AuthenticatedClient\n"
        "from client.api.compute import compute_system_name_jobs_get_jobs as listing\n"
        "answer = listing.sync(sys.argv[2], client=AuthenticatedClient(sys.argv[1], sys.argv[3]))\n"
        "print(answer.to_dict()['jobs'] is not None)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, gateway.url, gateway.system, gateway.token()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.stdout == "True\n", ran.stderr
