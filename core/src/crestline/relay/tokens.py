"""Session tokens, which a hub signs and the relay verifies. Both have the hub's key."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

ALGORITHM = "HS256"
MIN_KEY_BYTES = 32
MANAGE = "manage"
AGENT = "agent"


class InvalidTokenError(ValueError):
    """The token was not signed with this key, has expired, or has another purpose."""


@dataclass(frozen=True)
class Session:
    """The grant of a session token: to be the server of one user at one path."""

    id: str
    user: str
    path: str
    """The server's base URL at the hub: `/user/alice/` or `/user/alice/gpu/`."""
    hub_api: str
    """URL of the hub's API for the relay, `http://127.0.0.1:8081/hub/api`."""
    issued: float
    """Seconds since the epoch. Of two sessions for one path, the later one counts."""
    expires: float


class HubKey:
    """A hub's key, which signs tokens.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(self, key: bytes) -> None:
        key = key.strip()
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"A relay key has at least {MIN_KEY_BYTES} bytes: make one with `openssl rand -hex 32`.")
        self._key = OctKey.import_key(key)

    def new_session(self, *, user: str, path: str, hub_api: str, lifetime: float) -> tuple[Session, str]:
        """Create a session that is valid for `lifetime` seconds, and its token."""
        now = time.time()
        session = Session(secrets.token_hex(12), user, path, hub_api, now, now + lifetime)
        claims = {
            "use": AGENT,
            "jti": session.id,
            "sub": user,
            "path": path,
            "hub": hub_api,
            "iat": session.issued,
            "exp": session.expires,
        }
        return session, jwt.encode({"alg": ALGORITHM}, claims, self._key)

    def manager_token(self, lifetime: float = 60) -> str:
        """Create a token with which the hub queries sessions and ends them."""
        return jwt.encode({"alg": ALGORITHM}, {"use": MANAGE, "exp": time.time() + lifetime}, self._key)

    def session(self, token: str) -> Session:
        """Return the session of an agent's token.

        Raises:
            InvalidTokenError: the token is invalid.
        """
        claims = self._claims(token, AGENT)
        try:
            return Session(
                str(claims["jti"]),
                str(claims["sub"]),
                str(claims["path"]),
                str(claims["hub"]),
                float(claims["iat"]),
                float(claims["exp"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidTokenError("The token names no session.") from error

    def check_manager(self, token: str) -> None:
        """Check a token of the hub.

        Raises:
            InvalidTokenError: the token is not the hub's.
        """
        self._claims(token, MANAGE)

    def _claims(self, token: str, use: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise InvalidTokenError("The token is not signed with this hub's key.") from error
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or expires < time.time():
            raise InvalidTokenError("The token has expired.")
        if claims.get("use") != use:
            raise InvalidTokenError("The token is for something else.")
        return claims
