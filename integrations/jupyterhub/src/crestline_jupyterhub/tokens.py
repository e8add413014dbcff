"""The user's own identity at the gateway: the tokens of the login at the hub, one source of them per user.

The hub's `auth_state` holds what is valid now. It is read when a token is needed, renewed ahead of its end by one
caller for all, and what the issuer hands out is saved there before it is used, so that a refresh token that changes at
every use is never lost. The hub's own renewal comes here, too:

    from crestline_jupyterhub.tokens import refresh_user
    c.OAuthenticator.refresh_user_hook = refresh_user
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from joserfc import jws
from joserfc.errors import JoseError

from crestline.client.auth import BearerAuthorizer, Token, TokenSource, make_token, request_token
from crestline.model import AuthenticationError, ConfigError, CrestlineError

if TYPE_CHECKING:
    from jupyterhub.user import User

__all__ = ["refresh_user"]

_HUB_PATIENCE = 60.0
"""Seconds for the hub's event loop to do its part."""


class HubLogin(BearerAuthorizer):
    """A user's login as credentials of a gateway, created on the hub's event loop, to which it is bound."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.identity = f"login of {user.name}"
        self._loop = asyncio.get_running_loop()
        self._refused = ""
        self._source = TokenSource(self._renew)

    def refused(self, headers: Mapping[str, str]) -> bool:
        self._refused = headers.get("Authorization", "").removeprefix("Bearer ")
        return super().refused(headers)

    def _renew(self) -> Token:
        """Renew the token in a thread of the source: use the hub's token while it is valid, then replace it."""
        state = self._in_hub(self.user.get_auth_state()) or {}
        token = stored_token(state)
        if token is not None and token.value != self._refused and token.is_fresh(time.time()):
            return token
        used = state.get("refresh_token")
        if not used:
            raise AuthenticationError(f"The login of {self.user.name} has expired.", hint="Log out and in again.")
        token, rotated = request_token(*_refresh_request(self.user, used), repeatable=False)
        return self._in_hub(self._save(used, token, rotated or used))

    async def _save(self, used: str, token: Token, refresh_token: str) -> Token:
        state = await self.user.get_auth_state() or {}
        if state.get("refresh_token") == used:  # otherwise a new login meanwhile, which stays
            response = dict(state.get("token_response") or {})
            response |= {"access_token": token.value, "refresh_token": refresh_token}
            response |= {"issued_at": token.issued, "expires_at": token.expires}
            state |= {"access_token": token.value, "refresh_token": refresh_token, "token_response": response}
            await self.user.save_auth_state(state)
        return token

    def _in_hub(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work on the hub's event loop, which owns the hub's objects."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_HUB_PATIENCE)


_logins: dict[str, HubLogin] = {}


def login_for(user: User) -> HubLogin:
    """Return the one source of this user's tokens."""
    login = _logins.get(user.name)
    if login is None:
        login = _logins[user.name] = HubLogin(user)
    login.user = user
    return login


async def refresh_user(_authenticator: Any, user: User, _auth_state: Any) -> bool:
    """Keep the login alive through the same source, for `OAuthenticator.refresh_user_hook`.

    Returns:
        False: the user has to log in again; True also while the issuer does not respond.
    """
    try:
        await login_for(user).auth_headers()
    except AuthenticationError:
        return False
    except CrestlineError as error:
        user.authenticator.log.warning("The login of %s cannot be renewed now: %s", user.name, error)
    return True


def stored_token(auth_state: Mapping[str, Any]) -> Token | None:
    """Return the hub's access token. A token with an unknown lifetime counts as expired unless nothing can renew it."""
    value = auth_state.get("access_token")
    if not value:
        return None
    response = auth_state.get("token_response") or {}
    if response.get("access_token") == value and "expires_at" in response:
        return Token(value, response["issued_at"], response["expires_at"])
    claims = _claims(value)
    if isinstance(claims.get("iat"), int | float) and isinstance(claims.get("exp"), int | float):
        return Token(value, float(claims["iat"]), float(claims["exp"]))
    if auth_state.get("refresh_token"):
        return None
    return make_token(value, time.time())


def _claims(value: str) -> dict[str, Any]:
    try:
        claims = json.loads(jws.extract_compact(value.encode()).payload)
    except (JoseError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _refresh_request(user: User, refresh_token: str) -> tuple[str, dict[str, str]]:
    authenticator = user.authenticator
    token_url, client_id = getattr(authenticator, "token_url", ""), getattr(authenticator, "client_id", "")
    if not token_url or not client_id:
        raise ConfigError(
            "The hub's authenticator has no token_url and client_id.",
            hint="use_user_token needs an OAuthenticator (GenericOAuthenticator), with enable_auth_state.",
        )
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client_id}
    if secret := getattr(authenticator, "client_secret", ""):
        form["client_secret"] = secret
    return token_url, form
