"""The caller of one request."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

from crestline.model import AuthenticationError

caller_token: ContextVar[str | None] = ContextVar("caller_token", default=None)
"""the verified access token of the request under way, for services that act on its word"""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a verified token, or an API key, speaks for."""

    username: str
    """the POSIX user on the systems"""
    client_id: str
    """the OAuth2 client, or the API key's id"""
    scopes: frozenset[str] = frozenset()
    """of `wire.extensions.SCOPES`"""
    groups: frozenset[str] = frozenset()
    """as the identity provider names them"""
    via: str = "token"
    """how it was proven: `token` or `api-key`"""
    expires: float = float("inf")
    """when the credential ends, in seconds since the epoch"""
    min_uid: int = 0
    """smallest uid that the user may have on a system; 0 means any"""
    created_by: str | None = None
    """the OAuth2 client that made the API key, itself or by another key"""
    issuer: str | None = None
    """the issuer of the token, or of the token that the API key was made with; empty for a key that the operator made,
    None for a key of an earlier version"""


class InvalidCredentialError(AuthenticationError):
    """A credential that is genuine and may no longer be used, or not here.

    Attributes:
        principal: whom it speaks for.
    """

    def __init__(self, message: str, principal: Principal, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.principal = principal
