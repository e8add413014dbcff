"""HTTP responses of a simulated plain FirecREST, and constants that identify its system and user."""

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
"""Seconds since 1970 on the servers' clocks at the start of a simulation."""


@lru_cache(16)
def http_date(time: int) -> str:
    """Format seconds since 1970 as an HTTP date."""
    return formatdate(time, usegmt=True)


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return a response with FirecREST's error body."""
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": USER}
    return _json(status, body, headers)


def ok(body: dict[str, Any], status: int = 200) -> httpx.Response:
    """Return a response with this JSON body."""
    return _json(status, body)


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    return answer(status, msgspec.json.encode(body), {"Content-Type": "application/json", **(headers or {})})


def answer(status: int, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return a response that can be read only once, like one from a network."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))
