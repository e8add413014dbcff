"""The built-in OAuth2 issuer: client credentials (RFC 6749, section 4.4) and refresh (section 6)."""

from __future__ import annotations

import secrets
import time

from joserfc import jwt
from joserfc.jwk import RSAKey

from crestline.gateway.config import IssuerConfig
from crestline.gateway.identity.clients import ActiveClients, Client, Clients
from crestline.wire.codec import Message
from crestline.wire.extensions import SCOPES


class TokenAnswer(Message, rename=None, omit_defaults=True):
    """Answer of the token endpoint (RFC 6749, section 5.1); `expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | None = None


class TokenRefusal(Message, rename=None):
    """Error answer of the token endpoint (RFC 6749, section 5.2)."""

    error: str
    error_description: str


class OAuthError(Exception):
    """A refusal by the token endpoint."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.refusal = TokenRefusal(error=error, error_description=description)
        self.status = status


class Issuer:
    """Issues the tokens of one state directory. `name` and `audience` do not depend on the address of a request."""

    def __init__(self, key: RSAKey, identifier: str, clients: Clients, config: IssuerConfig) -> None:
        self.key = key
        self.name = f"urn:uuid:{identifier}"
        self.audience = f"crestline:{identifier}"
        self.active_clients = ActiveClients(clients)
        self._clients = clients
        self._config = config

    async def knows(self, client_id: str) -> bool:
        """Whether the client exists."""
        return await self._clients.exists(client_id)

    async def grant(self, form: dict[str, str], client_id: str, client_secret: str) -> TokenAnswer:
        """Answer one token request.

        Raises:
            OAuthError: `invalid_client`, `invalid_grant`, `invalid_scope`, `unsupported_grant_type` or
                `invalid_request`.
        """
        client = await self._clients.authenticate(client_id, client_secret)
        if client is None:
            raise OAuthError("invalid_client", "Unknown client or wrong secret.", 401)
        asked = form.get("scope", "")
        match form.get("grant_type"):
            case "client_credentials":
                scope = _granted(client, asked)
                # Only clients that ask for offline access get a refresh token, because clients hold the secret anyway.
                is_offline = "offline_access" in scope.split()
                return await self._answer(client, scope, refresh_scope=scope if is_offline else None)
            case "refresh_token":
                token = form.get("refresh_token", "")
                granted = await self._clients.refresh_scope(client, token)
                scope = _granted(client, asked) if granted is None else _refreshed(client, granted, asked)
                if not await self._clients.use_refresh_token(client, token):
                    raise OAuthError("invalid_grant", "The refresh token is unknown, used or expired.")
                return await self._answer(client, scope, refresh_scope=scope if granted is None else granted)
            case None:
                raise OAuthError("invalid_request", "grant_type is missing.")
            case other:
                raise OAuthError("unsupported_grant_type", f"{other[:64]!r} is not offered.")

    async def _answer(self, client: Client, scope: str, *, refresh_scope: str | None) -> TokenAnswer:
        now = int(time.time())
        claims = {
            "iss": self.name,
            "aud": self.audience,
            "sub": client.client_id,
            "azp": client.client_id,
            "preferred_username": client.username,
            "scope": scope,
            "iat": now,
            "exp": now + self._config.token_lifetime,
            "jti": secrets.token_hex(16),
        }
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)
        return TokenAnswer(
            access_token=token,
            token_type="Bearer",  # noqa: S106 - the type's name
            expires_in=self._config.token_lifetime,
            scope=scope,
            refresh_token=None
            if refresh_scope is None
            else await self._clients.new_refresh_token(client, self._config.refresh_lifetime, refresh_scope),
        )


def _granted(client: Client, asked: str) -> str:
    """Return the scope of a token: the requested ones of our own scopes, or all scopes of the client.

    Scopes of other systems, such as `openid` or `firecrest`, have no meaning here and are echoed, as clients expect.
    """
    words = asked.split()
    ours = SCOPES.intersection(words)
    if beyond := sorted(ours - client.scopes):
        raise OAuthError("invalid_scope", f"The client may not have {beyond[0]!r}.")
    return " ".join([*(each for each in words if each not in SCOPES), *sorted(ours or client.scopes)])


def _refreshed(client: Client, granted: str, asked: str) -> str:
    """Return the scope of a refreshed token: as granted, or the requested part of it (RFC 6749, section 6).

    It excludes scopes that the client has lost meanwhile.
    """
    ours = SCOPES.intersection(granted.split()) & client.scopes
    words = asked.split() or [each for each in granted.split() if each not in SCOPES]
    wanted = SCOPES.intersection(words) or ours
    if beyond := sorted(wanted - ours):
        raise OAuthError("invalid_scope", f"The refresh token does not grant {beyond[0]!r}.")
    if not wanted:
        raise OAuthError("invalid_grant", "The client has none of the scopes any more that the refresh token grants.")
    return " ".join([*(each for each in words if each not in SCOPES), *sorted(wanted)])
