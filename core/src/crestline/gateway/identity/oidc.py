"""The keys of an OpenID Connect provider, found by discovery and fetched again when it rotates them."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from crestline.model import GatewayUnavailableError

_log = logging.getLogger("crestline.identity")

_FAILURES = (httpx.HTTPError, OSError, JoseError, ValueError, KeyError, TypeError)
"""of a fetch; a TimeoutError is an OSError"""
_REFRESH = 3600.0
"""seconds after which keys are fetched again: a provider may have withdrawn one"""
_PAUSE = 5.0
"""seconds between two fetches that unknown key ids ask for, so that forged tokens cause no flood"""
_RETRY = 1.0
"""seconds after a failed fetch until the next one; requests that need it meanwhile fail at once"""


class ProviderKeys:
    """The JWKS of one provider.

    Known keys stay valid while the provider is away, and are renewed in the background.
    """

    def __init__(self, issuer: str, *, timeout: float = 3.0, ca_file: str | None = None) -> None:
        """`timeout`: seconds for a fetch as a whole."""
        self._issuer = issuer
        self._timeout = timeout
        self.ca_file = ca_file
        self._keys: KeySet | None = None
        self._names: frozenset[str | None] = frozenset()
        self._fetched = self._failed = float("-inf")
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def keys(self, kid: str | None) -> KeySet:
        """See `KeySource`; an unknown `kid` makes it look for new keys."""
        if self._keys is None or kid not in self._names:
            async with self._lock:
                if self._keys is None or kid not in self._names:
                    await self._look()
        else:
            self.current()
        assert self._keys is not None  # noqa: S101 - _look raises otherwise
        return self._keys

    def current(self) -> KeySet | None:
        """See `KeySource`; begins to renew them where it is time to."""
        if self._keys is not None and self._is_due() and not self._lock.locked():
            self._renewal = asyncio.create_task(self._renew(), name="identity provider's keys")
        return self._keys

    def _is_due(self) -> bool:
        now = time.monotonic()
        return now - self._fetched > _REFRESH and now - self._failed > _PAUSE

    async def _look(self) -> None:
        now = time.monotonic()
        if now - self._fetched < _PAUSE:
            return  # it was told just now, and has no such key
        if now - self._failed < _RETRY:
            raise self._away()
        await self._try()
        if self._failed >= now:
            raise self._away()

    async def _renew(self) -> None:
        async with self._lock:
            await self._try()

    async def _try(self) -> None:
        try:
            await self._fetch()
        except _FAILURES as error:
            _log.warning("the keys of %s cannot be fetched: %r", self._issuer, error)
            self._failed = time.monotonic()

    async def _fetch(self) -> None:
        """OpenID Connect Discovery 1.0, section 4, then the document at `jwks_uri` (RFC 7517)."""
        trust = ssl.create_default_context(cafile=self.ca_file)
        async with asyncio.timeout(self._timeout), httpx.AsyncClient(verify=trust) as client:
            discovery = await client.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            document = discovery.raise_for_status().json()
            if document["issuer"] != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            answer = await client.get(document["jwks_uri"])
            keys = KeySet.import_key_set(answer.raise_for_status().json())
        self._keys = keys
        self._names = frozenset(key.kid for key in keys.keys)
        self._fetched = time.monotonic()

    def _away(self) -> GatewayUnavailableError:
        return GatewayUnavailableError(
            "The identity provider does not tell its keys.", hint="Try again soon.", retry_after=_RETRY
        )
