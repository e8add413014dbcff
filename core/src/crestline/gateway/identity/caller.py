"""The caller of one request."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

caller_token: ContextVar[str | None] = ContextVar("caller_token", default=None)
"""the verified access token of the request under way, for services that act on its word"""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a verified token, or an API key, speaks for."""

    username: str
    """the POSIX user on the systems"""
    client_id: str
    """the OAuth2 client, or the API key's name"""
    scopes: frozenset[str] = frozenset()
