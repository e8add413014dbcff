"""The caller of a request."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

from crestline.model import AuthenticationError

caller_token: ContextVar[str | None] = ContextVar("caller_token", default=None)
"""The verified access token of the current request, for services that require it."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a verified token or API key."""

    username: str
    """The POSIX user on the systems."""
    client_id: str
    """Id of the OAuth2 client or the API key."""
    scopes: frozenset[str] = frozenset()
    """Scopes in `wire.extensions.SCOPES`."""
    groups: frozenset[str] = frozenset()
    """Groups, as the identity provider names them."""
    via: str = "token"
    """Kind of the credential: `token` or `api-key`."""
    expires: float = float("inf")
    """Expiry of the credential, in seconds since the epoch."""
    min_uid: int = 0
    """Minimum uid of the user on a system; 0: any."""
    created_by: str | None = None
    """The OAuth2 client that created the API key, directly or by another key."""
    issuer: str | None = None
    """The issuer of the token, or of the token that created the API key; empty for a key that the operator created,
    None for a key of an earlier version."""


class InvalidCredentialError(AuthenticationError):
    """A genuine credential that can no longer be used, or not here.

    Attributes:
        principal: its identity.
    """

    def __init__(self, message: str, principal: Principal, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.principal = principal
