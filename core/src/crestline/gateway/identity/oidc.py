"""The keys of an OpenID Connect provider, found by discovery and fetched again when it rotates them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from crestline.model import GatewayUnavailableError

_REFRESH = 3600.0
"""seconds after which keys are fetched again: a provider may have withdrawn one"""
_PAUSE = 10.0
"""seconds between two fetches that unknown key ids ask for, so that forged tokens cause no flood"""


class ProviderKeys:
    """The JWKS of one provider.

    When the provider is away, the keys that are known go on to count.
    """

    def __init__(self, issuer: str, *, timeout: float = 5.0, ca_file: str | None = None) -> None:
        """`timeout`: seconds for each of the two requests."""
        self._issuer = issuer
        self._client_options: dict[str, Any] = {"timeout": timeout, "verify": ca_file or True}
        self._keys: KeySet | None = None
        self._names: frozenset[str | None] = frozenset()
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def keys(self, kid: str | None) -> KeySet:
        """See `KeySource`; an unknown `kid` makes it look for new keys."""
        if self._keys is None or kid not in self._names or time.monotonic() - self._fetched > _REFRESH:
            async with self._lock:
                await self._refresh(kid)
        assert self._keys is not None  # noqa: S101 - _refresh raises otherwise
        return self._keys

    async def _refresh(self, kid: str | None) -> None:
        now = time.monotonic()
        fresh = self._keys is not None and kid in self._names and now - self._fetched <= _REFRESH
        if fresh or (self._keys is not None and now - self._tried < _PAUSE):
            return  # another request has done it meanwhile, or it was tried just now
        self._tried = now
        try:
            self._keys = await self._fetch()
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            if self._keys is None:
                raise GatewayUnavailableError(
                    "The identity provider does not tell its keys.", hint="Try again later.", retry_after=_PAUSE
                ) from error
            return
        self._names = frozenset(key.kid for key in self._keys.keys)
        self._fetched = time.monotonic()

    async def _fetch(self) -> KeySet:
        """OpenID Connect Discovery 1.0, section 4, then the document at `jwks_uri` (RFC 7517)."""
        async with httpx.AsyncClient(**self._client_options) as client:
            discovery = await client.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            document = discovery.raise_for_status().json()
            if document["issuer"] != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            keys = await client.get(document["jwks_uri"])
            return KeySet.import_key_set(keys.raise_for_status().json())
