"""Session tokens: a hub signs them, the relay trusts what they say. Both know the hub's key."""

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
    """The token was not signed with this key, has expired, or is for something else."""


@dataclass(frozen=True)
class Session:
    """What a session token grants: to be the server of one user at one path."""

    id: str
    user: str
    path: str
    """the server's base URL at the hub: `/user/alice/` or `/user/alice/gpu/`"""
    hub_api: str
    """URL of the hub's API as the relay reaches it, `http://127.0.0.1:8081/hub/api`"""
    issued: float
    """seconds since the epoch; of two sessions for one path, the later one counts"""
    expires: float


class HubKey:
    """A hub's key, and what is signed with it.

    Raises:
        ValueError: the key is too short to be one.
    """

    def __init__(self, key: bytes) -> None:
        key = key.strip()
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"A relay key has at least {MIN_KEY_BYTES} bytes: make one with `openssl rand -hex 32`.")
        self._key = OctKey.import_key(key)

    def new_session(self, *, user: str, path: str, hub_api: str, lifetime: float) -> tuple[Session, str]:
        """A session that lives for `lifetime` seconds, and its token."""
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
        """A token with which the hub asks about sessions and ends them."""
        return jwt.encode({"alg": ALGORITHM}, {"use": MANAGE, "exp": time.time() + lifetime}, self._key)

    def session(self, token: str) -> Session:
        """What an agent's token grants.

        Raises:
            InvalidTokenError: nothing.
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
        """
        Raises:
            InvalidTokenError: it is not the hub's.
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
