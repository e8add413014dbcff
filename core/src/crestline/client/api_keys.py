"""The caller's API keys on a gateway that has them: Crestline's own."""

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
    """Create a key. Only this answer contains its `secret`.

    Args:
        name: what it is for.
        scopes: what it may do; None: all that the site's own credential may, but for managing keys.
        expires_in: seconds; None: the gateway's default.

    Raises:
        UnsupportedError: the gateway is not a Crestline gateway.
        PermissionDeniedError: the site's credential may not create keys, or lacks one of the scopes.
    """
    async with _endpoints(site, policy) as keys:
        return await keys.create(name, scopes, expires_in)


async def list_api_keys(site: Site, policy: Policy | None = None) -> list[ApiKeyInfo]:
    """The caller's keys that were not revoked, the newest first.

    Raises:
        UnsupportedError: the gateway is not a Crestline gateway.
    """
    async with _endpoints(site, policy) as keys:
        return await keys.list()


async def revoke_api_key(site: Site, key_id: str, policy: Policy | None = None) -> None:
    """End a key.

    Raises:
        NotFoundError: the caller has no such key.
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
