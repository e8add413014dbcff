"""The examples of the REST reference are valid against the schemas of the gateway's OpenAPI documents."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.page_blocks import ROOT

WITHOUT_FIELDS = {"GET /oauth2/jwks", "GET /.well-known/openid-configuration"}
"""answers whose form is given by RFC 7517 and OpenID Connect Discovery"""


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The module that writes the reference."""
    sys.path.insert(0, str(ROOT / "docs/_ext"))
    try:
        return importlib.import_module("crestline_reference.operations")
    finally:
        sys.path.remove(str(ROOT / "docs/_ext"))


def json_bodies(reference: ModuleType, document: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [
        (f"{method} {path}", *body)
        for method, path, operation in reference.operations(document)
        for body in reference.bodies(operation)
        if body[1] in ("application/json", "application/x-www-form-urlencoded") and body[2]  # IRI's answers have none
    ]


@pytest.mark.parametrize(("api", "least"), [("firecrest", 40), ("iri", 15)])
def test_each_body_has_a_valid_example(reference: ModuleType, api: str, least: int) -> None:
    document = reference.DOCUMENTS[api]()
    examples = reference.Examples(document)
    found = json_bodies(reference, document)
    assert len(found) > least
    for operation, title, media, schema in found:
        example = examples.body(operation, media, schema)
        if operation in WITHOUT_FIELDS:
            continue
        assert example, f"{operation}: no example of {title}"
        validator = Draft202012Validator({"components": document["components"], **schema})
        assert list(validator.iter_errors(example)) == [], f"{operation}: {title}"
    assert examples.unsampled == set(), "required properties without a sample in examples.toml"


def test_each_sample_belongs_to_a_property(reference: ModuleType) -> None:
    documents = [make() for make in reference.DOCUMENTS.values()]
    operations = {f"{method} {path}" for document in documents for method, path, _ in reference.operations(document)}
    schemas: dict[str, set[str]] = {}
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            schemas.setdefault(name, set()).update(schema["properties"])
    properties = set().union(*schemas.values())
    for name, sample in sys.modules["crestline_reference.examples"].samples().items():
        if " " in name:
            assert name in operations
        elif name in schemas:
            named = set(sample) - {"omit"} | set(sample.get("omit", ()))
            assert named <= schemas[name], name
        else:
            assert name in properties, f"no schema has a property {name}"


@pytest.mark.parametrize("api", ["firecrest", "iri"])
def test_each_operation_is_on_the_page(reference: ModuleType, api: str) -> None:
    page = reference.markdown(api)
    for method, path, operation in reference.operations(reference.DOCUMENTS[api]()):
        section = page.split(f"### `{method} {path}`\n")[1].split("\n### ")[0]
        for title, media, _ in reference.bodies(operation):
            assert f"**{title}** (`{media}`)" in section
