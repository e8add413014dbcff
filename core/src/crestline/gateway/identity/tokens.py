"""Verification of bearer tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError

from crestline.gateway.identity.caller import Caller
from crestline.gateway.identity.keys import KeySource
from crestline.model import AuthenticationError, InvalidRequestError

_HINT = "Ask the token endpoint for a new one."
_CACHE_SIZE = 10_000
# Asymmetric ones alone: with a shared secret a public key could be passed off as one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


class TrustedIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken."""

    name: str
    """the claim `iss`"""
    audience: str
    """one of the claim `aud`"""
    keys: KeySource
    username_claim: str = "preferred_username"
    """holds the POSIX user on the systems"""


class TokenVerifier:
    """Checks signature, algorithm, issuer, audience and life of a JWT and says whom it speaks for.

    What a token says is remembered until it expires, since a client sends the same one many times.
    """

    def __init__(
        self, issuers: list[TrustedIssuer], *, min_ttl: int = 30, clock: Callable[[], float] = time.time
    ) -> None:
        """`min_ttl`: seconds that a token must still live, as FirecREST's `min_token_ttl`."""
        self._issuers: Mapping[str, TrustedIssuer] = {issuer.name: issuer for issuer in issuers}
        self._min_ttl = min_ttl
        self._clock = clock
        self._known: dict[str, tuple[float, Caller]] = {}

    async def verify(self, token: str) -> Caller:
        """Whom `token` speaks for.

        Raises:
            AuthenticationError: with FirecREST's texts.
            InvalidRequestError: the token is good and names no user.
            GatewayUnavailableError: the issuer's keys cannot be had at present.
        """
        known = self._known.get(token)
        if known is None:
            known = await self._decode(token)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[token] = known
        expiry, caller = known
        remaining = expiry - self._clock()
        if remaining < self._min_ttl:
            self._known.pop(token, None)
            if remaining <= 0:
                raise AuthenticationError("Access token expired", hint=_HINT)
            raise AuthenticationError(
                f"Access token expires too soon (less than {self._min_ttl}s remaining).", hint=_HINT
            )
        return caller

    async def _decode(self, token: str) -> tuple[float, Caller]:
        try:
            unverified = jws.extract_compact(token.encode())
            issuer = self._issuers[msgspec.json.decode(unverified.payload)["iss"]]
            keys = await issuer.keys.keys(unverified.headers().get("kid"))
            claims = jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
            self._registry(issuer).validate(claims)
        except ExpiredTokenError as error:
            raise AuthenticationError("Access token expired", hint=_HINT) from error
        except InvalidKeyIdError as error:
            raise AuthenticationError("Token's public key not found.", hint=_HINT) from error
        except (JoseError, KeyError, ValueError, TypeError) as error:
            raise AuthenticationError("Access token is invalid.", hint=_HINT) from error
        username = claims.get(issuer.username_claim)
        if not isinstance(username, str) or not username:
            raise InvalidRequestError(
                f"The token has no claim {issuer.username_claim!r}.",
                hint="Let the identity provider put the POSIX user name there.",
            )
        client = claims.get("azp") or claims.get("client_id") or claims.get("sub") or username
        return float(claims["exp"]), Caller(username=username, client_id=str(client))

    def _registry(self, issuer: TrustedIssuer) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            iss={"essential": True, "value": issuer.name},
            aud={"essential": True, "value": issuer.audience},
            exp={"essential": True},
        )
