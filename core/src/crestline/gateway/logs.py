"""The gateway's log on stderr: lines of text, or one JSON object per line for programs that collect logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from crestline.gateway.request_context import request_id


class _RequestIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON. `fields` in `extra` become fields of the object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def configure_logging(level: str = "INFO", *, as_json: bool = False) -> None:
    """Log to stderr with the request's id. As JSON, also log the warnings of Python and its libraries."""
    handler = logging.StreamHandler()
    handler.addFilter(_RequestIds())
    text = logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(as_json)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
