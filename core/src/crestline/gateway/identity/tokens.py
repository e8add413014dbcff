"""Verification of bearer tokens."""

from __future__ import annotations

import time
from collections.abc import Callable

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from crestline.gateway.identity.caller import Caller
from crestline.model import AuthenticationError, InvalidRequestError

_HINT = "Ask the token endpoint for a new one."
_CACHE_SIZE = 10_000


class TokenVerifier:
    """Checks signature, algorithm, issuer, audience and life of a JWT and says whom it speaks for.

    Answers of one token are remembered until it expires, since a client sends the same one many times.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        username_claim: str = "preferred_username",
        algorithms: tuple[str, ...] = ("RS256",),
        min_ttl: int = 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`min_ttl`: seconds that a token must still live, as FirecREST's `min_token_ttl`."""
        self._keys = keys
        self._username_claim = username_claim
        self._algorithms = list(algorithms)
        self._min_ttl = min_ttl
        self._clock = clock
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )
        self._known: dict[str, tuple[float, Caller]] = {}

    def verify(self, token: str) -> Caller:
        """Whom `token` speaks for.

        Raises:
            AuthenticationError: with FirecREST's texts.
            InvalidRequestError: the token is good and names no user.
        """
        known = self._known.get(token)
        if known is None:
            known = self._decode(token)
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

    def _decode(self, token: str) -> tuple[float, Caller]:
        try:
            claims = jwt.decode(token, self._keys, algorithms=self._algorithms).claims
            self._claims.validate(claims)
        except ExpiredTokenError as error:
            raise AuthenticationError("Access token expired", hint=_HINT) from error
        except InvalidKeyIdError as error:
            raise AuthenticationError("Token's public key not found.", hint=_HINT) from error
        except (JoseError, ValueError, TypeError) as error:
            raise AuthenticationError("Access token is invalid.", hint=_HINT) from error
        username = claims.get(self._username_claim)
        if not isinstance(username, str) or not username:
            raise InvalidRequestError(
                f"The token has no claim {self._username_claim!r}.",
                hint="Let the identity provider put the POSIX user name there.",
            )
        client = claims.get("azp") or claims.get("client_id") or claims.get("sub") or username
        return float(claims["exp"]), Caller(username=username, client_id=str(client))
