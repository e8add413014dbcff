"""The REST API, from the OpenAPI document that the gateway itself serves."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.runtime import GatewayRuntime
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
}


def markdown() -> str:
    """A table of operations for each part of the API."""
    parts: dict[str, list[list[str]]] = {}
    for path, item in document()["paths"].items():
        room = _ROOMS.get(path.split("/")[1], "The gateway itself")
        for method in ("get", "head", "post", "put", "delete"):
            if method in item:
                parts.setdefault(room, []).append(_row(method, path, item[method]))
    return "\n".join(
        f"## {room}\n\n{table(['operation', 'parameters', 'answers', 'what'], rows)}" for room, rows in parts.items()
    )


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of a gateway with its defaults."""
    return create_app(GatewayRuntime(GatewayConfig())).openapi_schema.to_schema()


def write_document(app: Sphinx, error: Exception | None) -> None:
    """Put the document beside the pages."""
    if error is None and app.builder.name == "html":
        Path(app.outdir, "openapi.json").write_text(json.dumps(document(), indent=1))


def _row(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    asked = [code(each["name"]) for each in operation.get("parameters", []) if each["in"] != "path"]
    if "requestBody" in operation:
        asked.append("a body")
    answers = ", ".join(code(status) for status in operation["responses"] if status not in ("4XX", "5XX"))
    about = (operation.get("description") or operation["summary"]).split("\n\n")[0]
    return [f"`{method.upper()} {path}`", ", ".join(asked), answers, about.replace("*", r"\*")]
