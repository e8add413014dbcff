"""Authenticates a request by its headers."""

from __future__ import annotations

from collections.abc import Mapping

from crestline.gateway.identity.api_keys import ApiKeys
from crestline.gateway.identity.principal import Principal, caller_token
from crestline.gateway.identity.tokens import TokenVerifier
from crestline.gateway.identity.users import KeyUsers
from crestline.model import AuthenticationError
from crestline.wire.extensions import API_KEY_HEADER, API_KEY_PREFIX


class Authenticator:
    """Accepts an access token as Bearer, and an API key as Bearer or in its own header."""

    def __init__(self, tokens: TokenVerifier, keys: ApiKeys, key_users: KeyUsers) -> None:
        self.tokens = tokens
        self._keys = keys
        self._key_users = key_users

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Return the caller, and store an access token in `caller_token`.

        Raises:
            AuthenticationError: the credential is missing or invalid.
            DeniedUserError: the configuration of the identity provider excludes its user.
            GatewayUnavailableError: the credential cannot be checked at present.
        """
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            credential = headers.get(API_KEY_HEADER.lower(), "").strip()
            if not credential:
                raise AuthenticationError(
                    "Not authenticated",
                    hint="Send 'Authorization: Bearer <token>' with a token of the token endpoint, or an API key.",
                )
            return await self._by_key(credential)
        if credential.startswith(API_KEY_PREFIX):
            return await self._by_key(credential)
        caller = await self.tokens.verify(credential)
        caller_token.set(credential)
        return caller

    async def check(self, caller: Principal) -> Principal:
        """Check that the caller of an earlier request could still use the same credential, and return the caller.

        A credential that has expired since is accepted.

        Raises:
            InvalidCredentialError: the credential was revoked, or its client or provider removed.
            DeniedUserError: the configuration of the identity provider excludes its user.
            GatewayUnavailableError: the credential cannot be checked at present.
        """
        if caller.via == "api-key":
            await self._keys.check(caller)
            return await self._key_users.check(caller)
        return await self.tokens.check(caller)

    async def _by_key(self, key: str) -> Principal:
        return await self._key_users.check(await self._keys.verify(key))
