"""What a Crestline gateway adds for identities: the caller's API keys."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.transport import RetryMode
from crestline.model import NotFoundError, UnsupportedError
from crestline.wire.extensions import ApiKeyInfo, ApiKeyRequest, ApiKeysAnswer, NewApiKey, Scope


class KeyCalls:
    """Calls of the addition `api-keys`, which holds for all systems of a gateway."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, name: str, scopes: Sequence[Scope] | None, expires_in: int | None) -> NewApiKey:
        """`POST /keys`; not repeated: where the answer is lost, so is the key."""
        body = ApiKeyRequest(name=name, scopes=list(scopes) if scopes is not None else None, expires_in=expires_in)
        try:
            return await self._calls._fetch(
                NewApiKey, "/keys", method="post", expect=201, how=RetryMode.NON_IDEMPOTENT, body=body
            )
        except NotFoundError:
            raise self._unsupported() from None

    async def list(self) -> list[ApiKeyInfo]:
        """`GET /keys`"""
        try:
            return (await self._calls._fetch(ApiKeysAnswer, "/keys")).keys
        except NotFoundError:
            raise self._unsupported() from None

    async def revoke(self, key_id: str) -> None:
        """`DELETE /keys/{key_id}`"""
        await self._calls._request("delete", f"/keys/{quote(key_id, safe='')}", expect=204)

    def _unsupported(self) -> UnsupportedError:
        return UnsupportedError(
            f"{self._calls.gateway_url} has no API keys.", hint="Only a Crestline gateway has them."
        )
