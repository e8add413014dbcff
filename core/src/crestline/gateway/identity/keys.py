"""Keys that sign tokens: the built-in issuer's own, and where to find those that verify."""

from __future__ import annotations

import json
from typing import Protocol

from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from crestline.gateway.state_directory import StateDirectory


class KeySource(Protocol):
    """Where the public keys of an issuer come from."""

    async def keys(self, kid: str | None) -> KeySet:
        """The keys, the one called `kid` among them if the issuer has it.

        Raises:
            GatewayUnavailableError: they cannot be had at present.
        """

    def current(self) -> KeySet | None:
        """Return the keys of the last fetch, a new object whenever they may have changed; does not wait."""


class OwnKeys:
    """The public key of the built-in issuer."""

    def __init__(self, key: RSAKey) -> None:
        self._keys = KeySet([key])

    async def keys(self, kid: str | None) -> KeySet:
        """Return the issuer's one key, whatever `kid` is."""
        return self._keys

    def current(self) -> KeySet:
        return self._keys


def signing_key(state_dir: StateDirectory) -> RSAKey:
    """The state directory's RSA key, made at first use; its `kid` is the RFC 7638 thumbprint."""

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
    """The JWKS document (RFC 7517) of `key`."""
    return KeySet([key]).as_dict(private=False)  # type: ignore[return-value]
