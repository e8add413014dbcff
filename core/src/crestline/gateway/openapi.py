"""The OpenAPI document and its page at `/docs`, which loads nothing from other servers."""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Litestar, Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Reference,
    Schema,
    SecurityScheme,
    Server,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.static_files import create_static_files_router
from swagger_ui_bundle import swagger_ui_path

from crestline import __version__
from crestline.gateway.page_headers import page_headers
from crestline.wire.extensions import API_KEY_HEADER

_ASSETS = "/docs/assets"


def openapi_config(prefix: str) -> OpenAPIConfig:
    """Return Litestar's configuration for `/docs`. The document is at `/docs/openapi.json`.

    Args:
        prefix: path prefix that a proxy adds, empty or as in `/firecrest`.
    """
    return OpenAPIConfig(
        title="Crestline",
        version=__version__,
        description="FirecREST v2 and Crestline's additions to it.",
        path="/docs",
        use_handler_docstrings=True,
        servers=[Server(url=prefix or "/")],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "apiKey": SecurityScheme(type="apiKey", name=API_KEY_HEADER, security_scheme_in="header"),
            },
        ),
        security=[{"bearer": []}, {"apiKey": []}],
        openapi_router=Router(
            "/docs", route_handlers=[], response_headers=page_headers(_policy()), include_in_schema=False
        ),
        render_plugins=[_Page(prefix)],
    )


class _Page(OpenAPIRenderPlugin):
    """Swagger UI without inline scripts and styles, so that its policy can forbid them."""

    def __init__(self, prefix: str) -> None:
        super().__init__(path="/")
        self._prefix = escape(prefix)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page, whose script fetches the document."""
        assets, page = f"{self._prefix}{_ASSETS}", f"{self._prefix}/page"
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crestline: API</title>
<link rel="icon" href="{page}/icon.svg">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<script src="{assets}/swagger-ui-bundle.js" defer></script>
<script src="{assets}/swagger-ui-standalone-preset.js" defer></script>
<script src="{page}/docs.js" data-document="{self._prefix}/docs/openapi.json" defer></script>
</head>
<body><div id="docs"></div></body>
</html>
""".encode()


def _policy() -> dict[str, str]:
    """Return the Content-Security-Policy. Swagger UI has images in its style, and sets styles of elements."""
    return {
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
    }


def assets_router() -> Router:
    """Return the router for scripts and styles of the page."""
    return create_static_files_router(
        _ASSETS, [swagger_ui_path], include_in_schema=False, name="docs-assets", opt={"public": True}
    )


def describe_errors(app: Litestar) -> None:
    """Add FirecREST's error responses to every operation, and remove the security from public ones."""
    error = OpenAPIResponse(
        description="What is wrong and what to do about it",
        content={"application/json": OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Error"))},
    )
    # Clients of signed URLs expect an object store, which answers in XML.
    xml_error = OpenAPIResponse(
        description="What is wrong, in the words of S3",
        content={"application/xml": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))} | (error.content or {}),
    )
    # Litestar replaces the schemas of `openapi_config` by those of the routes.
    components = app.openapi_schema.components
    components.schemas = {**(components.schemas or {}), "Error": _error_schema(), "OAuthError": _oauth_error_schema()}
    oauth_error = OpenAPIResponse(
        description="What is wrong, as RFC 6749 (section 5.2) has it, or as everywhere else",
        content={
            "application/json": OpenAPIMediaType(
                schema=Schema(
                    any_of=[
                        Reference(ref="#/components/schemas/OAuthError"),
                        Reference(ref="#/components/schemas/Error"),
                    ]
                )
            )
        },
    )
    for path, item in (app.openapi_schema.paths or {}).items():
        for method in ("get", "post", "put", "delete", "head"):
            operation = getattr(item, method)
            if operation is None:
                continue
            operation.responses.pop("400", None)
            for found in operation.responses.values():
                if isinstance(found, OpenAPIResponse) and _is_empty(found):
                    found.content = None
            answer = xml_error if path.startswith("/transfers") else error
            if path.startswith("/oauth2"):
                answer = oauth_error
            operation.responses |= {"4XX": answer, "5XX": answer}
            if path.startswith(("/oauth2", "/.well-known", "/transfers", "/status/liveness", "/status/readiness")):
                operation.security = []


def _is_empty(answer: OpenAPIResponse) -> bool:
    """Whether it never has a body, and therefore no media type."""
    schemas = [each.schema for each in (answer.content or {}).values()]
    return all(isinstance(each, Schema) and each.type == OpenAPIType.NULL for each in schemas)


def _oauth_error_schema() -> Schema:
    return Schema(
        type=OpenAPIType.OBJECT,
        required=["error"],
        properties={
            "error": Schema(type=OpenAPIType.STRING),
            "error_description": Schema(type=OpenAPIType.STRING),
        },
    )


def _error_schema() -> Schema:
    return Schema(
        type=OpenAPIType.OBJECT,
        required=["errorType", "message"],
        properties={
            "errorType": Schema(type=OpenAPIType.STRING, enum=["error", "validation"]),
            "message": Schema(type=OpenAPIType.STRING),
            "causedBy": Schema(type=[OpenAPIType.ARRAY, OpenAPIType.NULL], items=Schema(type=OpenAPIType.STRING)),
            "data": Schema(type=[OpenAPIType.OBJECT, OpenAPIType.NULL]),
            "user": Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL]),
        },
    )
