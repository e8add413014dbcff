"""Answers of a simulated plain FirecREST, and who and when it is."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from typing import Any

import httpx
import msgspec

SYSTEM = "cluster"
USER = "alice"
HOME = f"/home/{USER}"
EPOCH = 1_800_000_000.0
"""Seconds since 1970 at which a simulation begins, as the servers' clocks say."""


@lru_cache(16)
def http_date(time: int) -> str:
    """A time in seconds since 1970 as HTTP has it."""
    return formatdate(time, usegmt=True)


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer with FirecREST's error body."""
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": USER}
    return _json(status, body, headers)


def ok(body: dict[str, Any], status: int = 200) -> httpx.Response:
    """An answer with this body."""
    return _json(status, body)


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    return answer(status, msgspec.json.encode(body), {"Content-Type": "application/json", **(headers or {})})


def answer(status: int, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer that can be read once, as one from a network."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))
