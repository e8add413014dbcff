"""The identity provider of the site, and FirecREST's check of its tokens.

Client credentials and refresh tokens (OAuth 2.0, RFC 6749), RS256-signed JWTs (RFC 7519) and their key set (RFC 7517).
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
import time
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.refusals import Refusal
from crestline.testing.firecrest.settings import Settings, User

# One key for all servers of this process, since generating a key is slow.
_KEY = RSAKey.generate_key(2048, {"kid": "key-1", "alg": "RS256", "use": "sig"})
_STRANGER = "a-key-that-nobody-published"


class Issuer:
    """Issues tokens to the users of `settings`. Refresh tokens are rotated: each works once."""

    def __init__(self, settings: Settings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._users = {user.name: user for user in settings.users}
        self._refresh: dict[str, str] = {}
        self._lock = threading.Lock()
        self.kid = "key-1"

    def access_token(self, user: User, lifetime: float | None = None) -> str:
        """Return a signed token for `user` with a lifetime in seconds (default: the setting)."""
        now = time.time()
        claims = {
            "iss": "http://plain-firecrest/",
            "sub": f"id-of-{user.name}",
            "aud": "account",
            "preferred_username": user.name,
            "scope": "openid profile",
            "iat": int(now),
            "exp": int(now + (self._settings.token_lifetime if lifetime is None else lifetime)),
            "jti": secrets.token_hex(8),
        }
        kid = _STRANGER if self._faults.unknown_signing_key else self.kid
        return jwt.encode({"alg": "RS256", "kid": kid}, claims, _KEY)

    def sign_in(self, user: User) -> dict[str, Any]:
        """Return the result of an interactive login: an access token and a single-use refresh token."""
        refresh = secrets.token_urlsafe(24)
        with self._lock:
            self._refresh[refresh] = user.name
        return self._grant(user) | {"refresh_token": refresh}

    def check(self, authorization: str | None) -> User:
        """Return the user of an `Authorization` header. Like FirecREST, ignores audience and issuer. Raises Refusal."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
        echo = {"auth-token": token}
        if self._faults.reject_tokens:
            raise Refusal(401, "Access token is invalid.", headers=echo)
        try:
            found = jwt.decode(token, _KEY, algorithms=["RS256"])
            if found.header.get("kid") != self.kid:
                raise Refusal(401, "Token's public key not found.", headers=echo)
            jwt.JWTClaimsRegistry().validate(found.claims)
        except ExpiredTokenError:
            raise Refusal(401, "Access token expired", headers=echo) from None
        except (JoseError, ValueError):
            raise Refusal(401, "Access token is invalid.", headers=echo) from None
        least = self._faults.min_token_ttl
        claims = found.claims
        if claims["exp"] - time.time() < least:
            message = f"Access token expires too soon (less than {least:.0f}s remaining)."
            raise Refusal(401, message, headers=echo)
        return self._users[claims["preferred_username"]]

    def routes(self) -> list[Route]:
        """Return the routes of the identity provider."""
        return [
            Route("/token", self._token, methods=["POST"]),
            Route("/jwks", self._jwks),
            Route("/.well-known/openid-configuration", self._discovery),
        ]

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        client = self._client(request.headers.get("authorization"), form)
        if client is None:
            return _denied(401, "unauthorized_client", "Invalid client or Invalid client credentials")
        if form.get("grant_type") == "client_credentials":
            return JSONResponse(self._grant(client))
        if form.get("grant_type") == "refresh_token":
            with self._lock:
                name = self._refresh.pop(form.get("refresh_token", ""), None)
            if name is None or self._faults.reject_refresh:
                return _denied(400, "invalid_grant", "Token is not active")
            return JSONResponse(self.sign_in(self._users[name]))
        return _denied(400, "unsupported_grant_type", "Unsupported grant_type")

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [_KEY.as_dict(private=False) | {"kid": self.kid}]})

    async def _discovery(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"issuer": base, "token_endpoint": f"{base}/token", "jwks_uri": f"{base}/jwks"})

    def _client(self, authorization: str | None, form: dict[str, str]) -> User | None:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization and authorization.lower().startswith("basic "):
            pair = base64.b64decode(authorization[6:]).decode()
            client_id, _, secret = pair.partition(":")
        user = self._users.get(client_id)
        return user if user and hmac.compare_digest(user.secret, secret) else None

    def _grant(self, user: User) -> dict[str, Any]:
        return {
            "access_token": self.access_token(user),
            "expires_in": self._settings.token_lifetime,
            "token_type": "Bearer",
            "scope": "openid profile",
        }


def _denied(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status_code=status)
