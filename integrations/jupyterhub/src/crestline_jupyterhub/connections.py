"""The systems that this hub talks to: opened once, kept open, whoever asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable

from crestline.client import Site, System, connect, find_site
from crestline.model import CrestlineError

logger = logging.getLogger(__name__)


class Connections:
    """Open systems by target and identity; one for the process, as the hub is."""

    def __init__(self) -> None:
        self._open: dict[Hashable, System] = {}
        self._opening: dict[Hashable, asyncio.Task[System]] = {}

    async def get(self, target: str, site: Site | None = None) -> System:
        """The system, opened if nobody has yet.

        Args:
            target: as `SpawnerSettings.system`.
            site: another identity than the hub's own.

        Raises:
            ConfigError: there is no such site.
            GatewayUnavailableError: no answer; the next call tries again.
        """
        key = (target, site)
        if key in self._open:
            return self._open[key]
        if key not in self._opening:
            self._opening[key] = asyncio.ensure_future(self._connect(key, target, site))
        return await asyncio.shield(self._opening[key])

    def ready(self, target: str, site: Site | None = None) -> System | None:
        """The system if it is open; None otherwise, and then it is being opened."""
        key = (target, site)
        if key in self._open:
            return self._open[key]
        if key not in self._opening:
            self._opening[key] = asyncio.ensure_future(self._connect(key, target, site))
            self._opening[key].add_done_callback(_say_why)
        return None

    async def _connect(self, key: Hashable, target: str, site: Site | None) -> System:
        try:
            if site is None:
                found, name = find_site(target or None)
                system = connect(found, system=name)
            else:
                system = connect(site)
            self._open[key] = await system.open()
            return self._open[key]
        finally:
            del self._opening[key]

    async def close(self) -> None:
        """Let all go."""
        for system in self._open.values():
            await system.close()
        self._open.clear()


def _say_why(opening: asyncio.Task[System]) -> None:
    if not opening.cancelled() and isinstance(error := opening.exception(), CrestlineError):
        logger.warning("The gateway cannot be reached: %s", error)


connections = Connections()
"""of this hub"""
