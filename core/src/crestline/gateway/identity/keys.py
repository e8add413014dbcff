"""Keys of token issuers: the built-in issuer's signing key, and sources of public keys."""

from __future__ import annotations

import json
from typing import Protocol

from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from crestline.gateway.state_directory import StateDirectory


class KeySource(Protocol):
    """A source of an issuer's public keys."""

    async def keys(self, kid: str | None) -> KeySet:
        """Return the keys, including the one with id `kid` if the issuer has it.

        Raises:
            GatewayUnavailableError: the keys cannot be fetched at present.
        """

    def current(self) -> KeySet | None:
        """Return the keys of the last fetch without waiting; a new object whenever they may have changed."""


class OwnKeys:
    """The public key of the built-in issuer."""

    def __init__(self, key: RSAKey) -> None:
        self._keys = KeySet([key])

    async def keys(self, kid: str | None) -> KeySet:
        """Return the issuer's one key for any `kid`."""
        return self._keys

    def current(self) -> KeySet:
        return self._keys


def signing_key(state_dir: StateDirectory) -> RSAKey:
    """Return the state directory's RSA key, created at first use. Its `kid` is the RFC 7638 thumbprint."""

    def make() -> bytes:
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, private=True)
        return json.dumps(key.as_dict(private=True)).encode()

    def read(content: bytes) -> RSAKey:
        try:
            key = RSAKey.import_key(json.loads(content))
        except JoseError as error:
            raise ValueError(str(error)) from error
        if not key.is_private:
            raise ValueError("without its private part")
        key.ensure_kid()
        return key

    return state_dir.secret("signing_key.json", make, read)


def public_keys(key: RSAKey) -> dict[str, object]:
    """Return the JWKS document (RFC 7517) of `key`."""
    return KeySet([key]).as_dict(private=False)  # type: ignore[return-value]
