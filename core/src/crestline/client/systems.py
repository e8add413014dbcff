"""The systems of a gateway."""

from __future__ import annotations

from typing import Any

from crestline.client.backends.registry import create_backend
from crestline.client.config import Site
from crestline.client.policy import Policy


async def list_systems(site: Site, policy: Policy | None = None) -> list[dict[str, Any]]:
    """Fetch the entries of `GET /status/systems`, with name, scheduler, file systems and health of each system.

    Raises:
        ConfigError: the site has no credentials.
        GatewayUnavailableError: the gateway gave no usable answer.

    Example::

        site, _ = find_site("cscs")
        names = [system["name"] for system in await list_systems(site)]
    """
    backend = create_backend(site, None, site.authorizer(), policy=policy)
    try:
        return await backend.systems()
    finally:
        await backend.close()
