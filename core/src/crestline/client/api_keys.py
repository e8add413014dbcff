"""The user's API keys on a Crestline gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from crestline.client.backends.base import ApiKeyEndpoints
from crestline.client.backends.registry import create_backend
from crestline.client.config import Site
from crestline.client.policy import Policy
from crestline.wire.extensions import ApiKeyInfo, NewApiKey, Scope


async def create_api_key(
    site: Site,
    name: str,
    *,
    scopes: Sequence[Scope] | None = None,
    expires_in: int | None = None,
    policy: Policy | None = None,
) -> NewApiKey:
    """Create an API key. Only this answer contains its `secret`.

    Args:
        site: the gateway, with credentials of the user.
        name: description of the key.
        scopes: scopes of the key. None: all scopes of the site's credentials except those for keys.
        expires_in: lifetime in seconds. None: the gateway's default.
        policy: retry settings.

    Raises:
        UnsupportedError: the gateway is not a Crestline gateway.
        PermissionDeniedError: the site's credentials may not create keys, or lack one of the scopes.
    """
    async with _endpoints(site, policy) as keys:
        return await keys.create(name, scopes, expires_in)


async def list_api_keys(site: Site, policy: Policy | None = None) -> list[ApiKeyInfo]:
    """List the user's keys that were not revoked, the newest first.

    Raises:
        UnsupportedError: the gateway is not a Crestline gateway.
    """
    async with _endpoints(site, policy) as keys:
        return await keys.list()


async def revoke_api_key(site: Site, key_id: str, policy: Policy | None = None) -> None:
    """Revoke a key.

    Raises:
        NotFoundError: the key does not exist or belongs to another user.
    """
    async with _endpoints(site, policy) as keys:
        await keys.revoke(key_id)


@asynccontextmanager
async def _endpoints(site: Site, policy: Policy | None) -> AsyncIterator[ApiKeyEndpoints]:
    backend = create_backend(site, None, site.authorizer(), policy=policy)
    try:
        yield backend.api_keys
    finally:
        await backend.close()
