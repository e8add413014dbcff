"""What is behind a gateway, before one of its systems is chosen."""

from __future__ import annotations

from typing import Any

from crestline.client.backends.registry import create_backend
from crestline.client.config import Site
from crestline.client.policy import Policy


async def list_systems(site: Site, policy: Policy | None = None) -> list[dict[str, Any]]:
    """The entries of the gateway's `/status/systems`: name, scheduler, file systems, health.

    Raises:
        ConfigError: the site has no credentials.
        GatewayUnavailableError: no usable answer.
    """
    backend = create_backend(site, None, site.authorizer(), policy=policy)
    try:
        return await backend.systems()
    finally:
        await backend.close()
