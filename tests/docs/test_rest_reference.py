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


def json_bodies(reference: ModuleType) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [
        (f"{method} {path}", *body)
        for method, path, operation in reference.operations(reference.document())
        for body in reference.bodies(operation)
        if body[1] in ("application/json", "application/x-www-form-urlencoded")
    ]


def test_each_body_has_a_valid_example(reference: ModuleType) -> None:
    document = reference.document()
    examples = reference.Examples(document)
    found = json_bodies(reference)
    assert len(found) > 40
    for operation, title, media, schema in found:
        example = examples.body(operation, media, schema)
        if operation in WITHOUT_FIELDS:
            continue
        assert example, f"{operation}: no example of {title}"
        validator = Draft202012Validator({"components": document["components"], **schema})
        assert list(validator.iter_errors(example)) == [], f"{operation}: {title}"
    assert examples.unsampled == set(), "required properties without a sample in examples.toml"


def test_each_sample_belongs_to_a_property(reference: ModuleType) -> None:
    schemas = reference.document()["components"]["schemas"]
    operations = {f"{method} {path}" for method, path, _ in reference.operations(reference.document())}
    properties = {name for schema in schemas.values() for name in schema["properties"]}
    for name, sample in sys.modules["crestline_reference.examples"].samples().items():
        if " " in name:
            assert name in operations
        elif name in schemas:
            named = set(sample) - {"omit"} | set(sample.get("omit", ()))
            assert named <= set(schemas[name]["properties"]), name
        else:
            assert name in properties, f"no schema has a property {name}"


def test_each_operation_is_on_the_page(reference: ModuleType) -> None:
    page = reference.markdown()
    for method, path, operation in reference.operations(reference.document()):
        section = page.split(f"### `{method} {path}`\n")[1].split("\n### ")[0]
        for title, media, _ in reference.bodies(operation):
            assert f"**{title}** (`{media}`)" in section
