"""The keys of an OpenID Connect provider, found by discovery and fetched again when the provider rotates them."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import Any

import httpx
import msgspec
from joserfc.jwk import KeySet

from crestline.bounded import BoundedClient, decode
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline.plain_http import check_url

_log = logging.getLogger("crestline.identity")

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, CrestlineError, ValueError)
"""Errors of a fetch; a TimeoutError is an OSError."""
_MAX_DOCUMENT = 256 * 1024
"""Maximum size in bytes of a discovery document, and of a set of keys."""
_REFRESH = 3600.0
"""Seconds after which keys are fetched again, because a provider may have withdrawn one."""
_PAUSE = 5.0
"""Minimum seconds between two fetches for unknown key ids, so that forged tokens cause few of them."""
_RETRY = 1.0
"""Seconds after a failed fetch until the next one. Requests that need it meanwhile fail immediately."""


class Discovery(msgspec.Struct):
    """The used fields of a discovery document."""

    issuer: str
    jwks_uri: str


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class ProviderKeys:
    """The JWKS of one provider.

    Known keys stay valid while the provider does not respond, and are renewed in the background.
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
        """See `KeySource`. For an unknown `kid` it fetches the keys again."""
        if self._keys is None or kid not in self._names:
            async with self._lock:
                if self._keys is None or kid not in self._names:
                    await self._fetch_keys()
        else:
            self.current()
        assert self._keys is not None  # noqa: S101 - _look raises otherwise
        return self._keys

    def current(self) -> KeySet | None:
        """See `KeySource`. Starts a renewal when it is due."""
        if self._keys is not None and self._is_due() and not self._lock.locked():
            self._renewal = asyncio.create_task(self._renew(), name="identity provider's keys")
        return self._keys

    def _is_due(self) -> bool:
        now = time.monotonic()
        return now - self._fetched > _REFRESH and now - self._failed > _PAUSE

    async def _fetch_keys(self) -> None:
        now = time.monotonic()
        if now - self._fetched < _PAUSE:
            return  # fetched just now, without such a key
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
        """Fetch the discovery document (OpenID Connect Discovery 1.0, section 4), then the document at `jwks_uri`
        (RFC 7517)."""
        client = BoundedClient(
            limit=_MAX_DOCUMENT, seconds=self._timeout, verify=ssl.create_default_context(cafile=self.ca_file)
        )
        async with asyncio.timeout(self._timeout), client:
            answer = await client.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            document = decode(answer.raise_for_status().content, Discovery)
            if document.issuer != self._issuer:
                raise ValueError("the discovery document is another issuer's")
            check_url(document.jwks_uri)
            answer = await client.get(document.jwks_uri)
            keys = read_keys(answer.raise_for_status().content)
        self._keys = keys
        self._names = frozenset(key.kid for key in keys.keys)
        self._fetched = time.monotonic()

    def _away(self) -> GatewayUnavailableError:
        return GatewayUnavailableError(
            "The identity provider did not send its keys.", hint="Try again soon.", retry_after=_RETRY
        )


def read_keys(content: bytes) -> KeySet:
    """Parse a set of keys (RFC 7517, section 5).

    Raises:
        ValueError: malformed set of keys.
    """
    document = decode(content, _Keys)
    try:
        return KeySet.import_key_set({"keys": document.keys})
    except Exception as error:  # the library raises errors of any kind for malformed input
        raise ValueError(f"its keys cannot be read: {error!r}"[:200]) from None
