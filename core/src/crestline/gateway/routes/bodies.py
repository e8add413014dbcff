"""Request bodies that are read as they arrive, described for the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

MAX_FIELDS = 64 * 1024
"""Maximum size in bytes of a JSON body with names and numbers. Bodies with scripts or lists of files have the
configured limit."""

_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


def _operation(media_type: str, schema: Schema) -> type[Operation]:
    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(required=True, content={media_type: OpenAPIMediaType(schema=schema)})

    return WithBody


FORM_WITH_FILE = _operation(
    "multipart/form-data", Schema(type=OpenAPIType.OBJECT, required=["file"], properties={"file": _BYTES})
)
BYTES = _operation("application/octet-stream", _BYTES)
XML = _operation("application/xml", Schema(type=OpenAPIType.OBJECT))
