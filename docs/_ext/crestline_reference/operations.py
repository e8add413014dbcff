"""The REST API, from the OpenAPI document that the gateway itself serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.iri.facility import VERSIONS
from crestline.gateway.routes.iri import handlers
from crestline.gateway.routes.iri.document import describe
from crestline.gateway.runtime import GatewayRuntime
from crestline_reference.examples import Examples
from crestline_reference.tables import code, table

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ROOMS = {
    "status": "Systems and their state",
    "compute": "Jobs",
    "filesystem": "Files",
    "transfers": "Signed URLs",
    "keys": "API keys",
    "oauth2": "Tokens",
    ".well-known": "Tokens",
    "facility": "The facility",
    "account": "Accounts",
    "task": "Tasks",
    "storage": "Storage",
}
_IRI = f"/api/v{max(VERSIONS)}"


def markdown(api: str = "firecrest") -> str:
    """Each operation of an API: its parameters, its bodies, and an example of each."""
    described = DOCUMENTS[api]()
    examples = Examples(described)
    parts: dict[str, list[str]] = {}
    for method, path, operation in operations(described):
        room = _ROOMS.get(path.removeprefix(_IRI).split("/")[1], "The gateway itself")
        parts.setdefault(room, []).append(_section(method, path, operation, examples))
    error = {"$ref": f"#/components/schemas/{'Error' if api == 'firecrest' else 'Problem'}"}
    parts["Errors"] = [*_body(error, examples.value(error), examples)]
    return "\n".join(f"## {room}\n\n{''.join(sections)}" for room, sections in parts.items())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, item in document["paths"].items():
        for method in ("get", "head", "post", "put", "delete"):
            if method in item:
                yield method.upper(), path, item[method]


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What each body of a request or a successful answer is, its media type and its schema."""
    answers = {f"Answer {status}": each for status, each in operation["responses"].items() if status.isdigit()}
    request = {"Body": operation["requestBody"]} if "requestBody" in operation else {}
    for title, body in (request | answers).items():
        for media, content in body.get("content", {}).items():
            yield title, media, content["schema"]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of a gateway with its defaults."""
    return create_app(GatewayRuntime(GatewayConfig())).openapi_schema.to_schema()


@cache
def iri_document() -> dict[str, Any]:
    """The newest version of the IRI API."""
    newest = max(VERSIONS)
    return describe(newest, handlers(newest), "https://gateway.example.org/iri")


DOCUMENTS = {"firecrest": document, "iri": iri_document}


def write_document(app: Sphinx, error: Exception | None) -> None:
    """Put the document beside the pages."""
    if error is None and app.builder.name == "html":
        Path(app.outdir, "openapi.json").write_text(json.dumps(document(), indent=1))


def _section(method: str, path: str, operation: dict[str, Any], examples: Examples) -> str:
    about = (operation.get("description") or operation["summary"]).split("\n\n")[0]
    lines = [f"### `{method} {path}`\n", about.replace("*", r"\*") + "\n"]
    if operation.get("parameters"):
        rows = [
            [code(each["name"]), each["in"], examples.type(each["schema"]), _required(each["required"]), _about(each)]
            for each in sorted(operation["parameters"], key=lambda each: each["in"] != "path")
        ]
        lines.append(table(["parameter", "in", "type", "required", "meaning"], rows))
    for title, media, schema in bodies(operation):
        lines.append(f"**{title}** ({code(media)})\n")
        lines += _body(schema, examples.body(f"{method} {path}", media, schema), examples)
    lines += [f"**Answer {status}**, without a body\n" for status in _bodiless(operation)]
    return "\n".join(lines) + "\n"


def _body(schema: dict[str, Any], example: Any, examples: Examples) -> Iterator[str]:
    rows = [[code(name), kind, _required(required), about] for name, kind, required, about in examples.fields(schema)]
    if rows:
        yield table(["field", "type", "required", "meaning"], rows)
    if example is not None:
        yield f"```json\n{json.dumps(example, indent=2)}\n```\n"


def _bodiless(operation: dict[str, Any]) -> list[str]:
    return [status for status, each in operation["responses"].items() if status.isdigit() and not each.get("content")]


def _required(required: bool) -> str:
    return "yes" if required else ""


def _about(parameter: dict[str, Any]) -> str:
    return str(parameter.get("description", "")).replace("*", r"\*")
