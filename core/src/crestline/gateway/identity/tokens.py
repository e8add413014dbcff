"""Verification of bearer tokens."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from crestline.gateway.identity.keys import KeySource
from crestline.gateway.identity.principal import InvalidCredentialError, Principal
from crestline.gateway.identity.users import UserPolicy
from crestline.model import AuthenticationError, InvalidRequestError
from crestline.wire.extensions import SCOPES

_HINT = "Ask the token endpoint for a new one."
_CACHE_SIZE = 10_000
_SKEW = 60
"""Seconds that an issuer's clock may be ahead. The expiry is checked without it."""
# Asymmetric algorithms only: with a shared secret, a public key could be used as one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


class TrustedIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer whose tokens the gateway accepts."""

    name: str
    """Value of the claim `iss`."""
    audience: str
    """Required value of the claim `aud`."""
    keys: KeySource
    username_claim: str = "preferred_username"
    """Claim with the POSIX user on the systems."""
    groups_claim: str | None = None
    """Claim with the list of the user's groups. A dot leads into an object, as in `realm_access.roles`."""
    users: UserPolicy | None = None
    """Users that it can name; None: any."""
    check: Callable[[Principal], Awaitable[None]] | None = None
    """Called at each use of a token to check that it is still valid."""
    scopes: Mapping[str, Collection[str]] | None = None
    """Our scopes by scope of the issuer, besides those with our names; None: a token grants every scope."""


class _Verified(NamedTuple):
    """A verified token and the keys that verified it."""

    caller: Principal
    source: KeySource
    keys: KeySet
    check: Callable[[Principal], Awaitable[None]] | None


class TokenVerifier:
    """Verifies signature, algorithm, issuer, audience and lifetime of a JWT and returns its identity.

    The content of a verified token is cached, because a client sends the same one many times: until it expires, or the
    keys of its issuer change, because the key that signed it may have been withdrawn.
    """

    def __init__(
        self, issuers: list[TrustedIssuer], *, min_ttl: int = 30, clock: Callable[[], float] = time.time
    ) -> None:
        """`min_ttl`: minimum remaining lifetime of a token in seconds, as FirecREST's `min_token_ttl`."""
        self._issuers: Mapping[str, TrustedIssuer] = {issuer.name: issuer for issuer in issuers}
        self._min_ttl = min_ttl
        self._clock = clock
        self._verified: dict[bytes, _Verified] = {}

    @property
    def key_sources(self) -> dict[str, KeySource]:
        """Return the source of keys of each issuer by its name."""
        return {name: issuer.keys for name, issuer in self._issuers.items()}

    async def verify(self, token: str) -> Principal:
        """Return the caller for `token`.

        Raises:
            AuthenticationError: with FirecREST's texts; InvalidCredentialError if the signature is valid.
            DeniedUserError: the issuer cannot name this user.
            InvalidRequestError: the token is valid but names no user.
            GatewayUnavailableError: the issuer's keys cannot be fetched at present.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is None or known.source.current() is not known.keys:
            self._verified.pop(digest, None)
            known = await self._decode(token)
            if len(self._verified) >= _CACHE_SIZE:
                self._verified.clear()
            self._verified[digest] = known
        caller = known.caller
        remaining = caller.expires - self._clock()
        if remaining < self._min_ttl:
            self._verified.pop(digest, None)
            if remaining <= 0:
                raise InvalidCredentialError("Access token expired", caller, hint=_HINT)
            raise InvalidCredentialError(
                f"Access token expires too soon (less than {self._min_ttl}s remaining).", caller, hint=_HINT
            )
        if known.check is not None:
            await known.check(caller)
        return caller

    async def check(self, caller: Principal) -> Principal:
        """Return the caller of an earlier request, with the current minimum uid of the user.

        Raises:
            InvalidCredentialError: the client was removed, or the issuer was removed from the configuration.
            DeniedUserError: the issuer cannot name the user.
        """
        issuer = self._issuers.get(caller.issuer or "")
        if issuer is None:
            raise InvalidCredentialError(
                f"The identity provider {caller.issuer} is not configured any more.", caller, hint="Sign in again."
            )
        if issuer.check is not None:
            await issuer.check(caller)
        if issuer.users is None:
            return caller
        await issuer.users.check(caller)
        return msgspec.structs.replace(caller, min_uid=issuer.users.min_uid)

    async def _decode(self, token: str) -> _Verified:
        try:
            unverified = jws.extract_compact(token.encode())
            issuer = self._issuers[msgspec.json.decode(unverified.payload)["iss"]]
            keys = await issuer.keys.keys(unverified.headers().get("kid"))
            claims = jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
        except InvalidKeyIdError as error:
            raise AuthenticationError("Token's public key not found.", hint=_HINT) from error
        except (JoseError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise AuthenticationError("Access token is invalid.", hint=_HINT) from error
        principal = _principal(issuer, claims)
        try:
            self._registry(issuer).validate(claims)
        except ExpiredTokenError as error:
            raise InvalidCredentialError("Access token expired", principal, hint=_HINT) from error
        except (JoseError, ValueError, TypeError) as error:
            raise InvalidCredentialError("Access token is invalid.", principal, hint=_HINT) from error
        if not principal.username:
            raise InvalidRequestError(
                f"The token has no claim {issuer.username_claim!r}.",
                hint="Let the identity provider put the POSIX user name there.",
            )
        if issuer.users is not None:
            await issuer.users.check(principal)
        return _Verified(principal, issuer.keys, keys, issuer.check)

    def _registry(self, issuer: TrustedIssuer) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=_SKEW,
            iss={"essential": True, "value": issuer.name},
            aud={"essential": True, "value": issuer.audience},
            exp={"essential": True},
        )


def _principal(issuer: TrustedIssuer, claims: Mapping[str, Any]) -> Principal:
    """Return the identity of the claims, without a user if they name none."""
    username = claims.get(issuer.username_claim)
    username = username if isinstance(username, str) else ""
    client = claims.get("azp") or claims.get("client_id") or claims.get("sub") or username
    expires = claims.get("exp")
    return Principal(
        username=username,
        client_id=str(client),
        scopes=_scopes(issuer, claims),
        groups=frozenset(_words(_claim(claims, issuer.groups_claim))) if issuer.groups_claim else frozenset(),
        expires=float(expires) if isinstance(expires, int | float) else 0.0,
        min_uid=issuer.users.min_uid if issuer.users is not None else 0,
        issuer=issuer.name,
    )


def _scopes(issuer: TrustedIssuer, claims: Mapping[str, Any]) -> frozenset[str]:
    if issuer.scopes is None:
        return SCOPES
    # `scope` is RFC 9068's claim, a text; some providers use `scp`.
    granted = _words(claims.get("scope") or claims.get("scp"))
    return SCOPES & {ours for each in granted for ours in (each, *issuer.scopes.get(each, ()))}


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
