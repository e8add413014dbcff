"""The health of the systems, probed now and then and answered from memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from crestline.gateway.systems import SystemRuntime, Systems
from crestline.model import CrestlineError
from crestline.wire.status import ServiceHealth

INTERVAL = 120
"""seconds between probes, FirecREST's default"""

_TIMEOUT = 5.0


class Health:
    """What the last probes said."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._task: asyncio.Task[None] | None = None
        self.services: dict[str, list[ServiceHealth]] = {}
        self.checked: dict[str, datetime] = {}

    async def start(self) -> None:
        """Probe everything once, then go on in the background."""
        await self._probe_all()
        self._task = asyncio.create_task(self._run(), name="health")

    async def stop(self) -> None:
        """End the probes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self._probe_all()

    async def _probe_all(self) -> None:
        await asyncio.gather(*(self._probe_system(system) for system in self._systems))

    async def _probe_system(self, system: SystemRuntime) -> None:
        self.services[system.name] = list(
            await asyncio.gather(
                _probe("scheduler", system.scheduler.ping),
                _probe("ssh", system.host.ping),
                *(_probe_file_system(system, each.path) for each in system.file_systems),
            )
        )
        self.checked[system.name] = datetime.now(UTC)


async def _probe_file_system(system: SystemRuntime, path: str) -> ServiceHealth:
    health = await _probe("filesystem", lambda: system.host.ping_path(path))
    health.path = path
    return health


async def _probe(service: str, ask: Callable[[], Awaitable[str | None]]) -> ServiceHealth:
    started = time.monotonic()
    message: str | None
    try:
        async with asyncio.timeout(_TIMEOUT):
            message = await ask()
        healthy = True
    except TimeoutError:
        healthy, message = False, f"No answer within {_TIMEOUT:.0f} s."
    except CrestlineError as error:
        healthy, message = False, error.message
    return ServiceHealth(
        service_type=service,  # type: ignore[arg-type]
        last_checked=datetime.now(UTC),
        latency=time.monotonic() - started,
        healthy=healthy,
        message=message,
    )
