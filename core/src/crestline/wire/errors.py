"""The body of every 4xx and 5xx answer."""

from __future__ import annotations

from typing import Any, Literal

from crestline.wire.codec import Message


class ErrorBody(Message):
    """FirecREST's error body (`ApiResponseError` in its OpenAPI schema)."""

    message: str
    error_type: Literal["error", "validation"] = "error"
    caused_by: list[str] | None = None
    data: dict[str, Any] | None = None
    """For `validation`: `{"fields": [{"location", "name", "message"}]}`."""
    user: str | None = None
