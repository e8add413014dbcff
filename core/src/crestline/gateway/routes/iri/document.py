"""The OpenAPI documents of the IRI API, generated from the served endpoints and their messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from crestline import __version__
from crestline.gateway.iri.facility import PREFIX
from crestline.gateway.requests import GatewayRequest
from crestline.gateway.routes.iri.answers import json
from crestline.wire.extensions import IDEMPOTENCY_HEADER
from crestline.wire.iri import URN

_PARAMETER = re.compile(r"{(\w+):str}")
_BEARER = "HTTPBearer"
_NEWER_COMPRESSION = {
    "type": "string",
    "pattern": f"^{URN}compression:(none|bzip2|gzip|xz)$",
    "default": f"{URN}compression:gzip",
}
_KEY = {"name": IDEMPOTENCY_HEADER, "in": "header", "required": False, "schema": {"type": "string"}}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}


class Problem(msgspec.Struct, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    status: int
    instance: str
    title: str | None = None
    detail: str | None = None
    invalid_params: list[dict[str, str]] = []


def describe(version: int, handlers: Sequence[HTTPRouteHandler], url: str) -> dict[str, Any]:
    """Return the document of one version.

    Args:
        version: 1 or 2.
        handlers: the endpoints.
        url: base URL of the API.
    """
    messages: list[Any] = [Problem]
    for handler in handlers:
        messages += [each for each in (_query(handler, version), handler.opt.get("body")) if each is not None]
    _, components = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
    if version >= 2:
        for schema in components.values():
            if "compression" in schema["properties"]:
                schema["properties"]["compression"] = _NEWER_COMPRESSION
    paths: dict[str, dict[str, Any]] = {}
    for handler in handlers:
        for path in handler.paths:
            for method in sorted(handler.http_methods):
                entry = paths.setdefault(_PARAMETER.sub(r"{\1}", f"/api/v{version}{path}"), {})
                entry[method.lower()] = _operation(handler, path, version, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"IRI Facility API v{version} of Crestline",
            "version": f"{version}.0.0",
            "description": f"Crestline {__version__}",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}},
        },
    }


def document_handlers(version: int, described: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Return the endpoints for a version's document, at the paths where the API's authors and clients expect it."""
    own = [f"{PREFIX}/v{version}/openapi.json"]

    @get(own if version >= 2 else ["/iri/openapi.json", *own], public=True, include_in_schema=False)
    async def get_document(request: GatewayRequest) -> Response[Any]:
        """Return the OpenAPI document."""
        return json(describe(version, described, f"{request.runtime.public_url()}/iri"))

    return [get_document]


def _query(handler: HTTPRouteHandler, version: int) -> Any:
    query = handler.opt.get("query")
    return query[version] if isinstance(query, dict) else query


def _operation(handler: HTTPRouteHandler, path: str, version: int, components: dict[str, Any]) -> dict[str, Any]:
    name = handler.opt["operation"]
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": {"type": "string"}}
        for each in _PARAMETER.findall(path)
    ]
    if (query := _query(handler, version)) is not None:
        schema = components[query.__name__]
        parameters += [
            {"name": each, "in": "query", "required": each in schema.get("required", ()), "schema": found}
            for each, found in schema["properties"].items()
        ]
    parameters += [_KEY] if name in ("launchJob", "updateJob") else []
    problem = {
        "description": "What is wrong",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    status = handler.status_code
    answer: dict[str, Any] = {"description": "Done" if status == 204 else "The answer"}
    if status != 204:
        answer["content"] = {"application/json": {"schema": {}}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": (handler.fn.__doc__ or "").strip().partition("\n")[0],
        "tags": [path.split("/")[1]],
        "parameters": parameters,
        "responses": {str(status): answer, "4XX": problem, "5XX": problem},
    }
    body = handler.opt.get("body")
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        operation["requestBody"] = {
            "required": name != "getJobs",
            "content": {"application/json": {"schema": schema}},
        }
    elif name == "upload":
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    if not handler.opt.get("public"):
        operation["security"] = [{_BEARER: []}]
    return operation
