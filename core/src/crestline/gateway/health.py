"""The health of the systems: probed on request and at intervals, served from memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from crestline.gateway import metrics
from crestline.gateway.systems import SystemRegistry, SystemRuntime
from crestline.model import CrestlineError
from crestline.wire.status import ServiceHealth

INTERVAL = 120
"""Seconds between periodic probes, FirecREST's default."""

FRESH = 5.0
"""Seconds for which the result of a probe is served."""

_TIMEOUT = 5.0
_PATIENCE = 1.0
"""Seconds for which a request waits for a probe before it gets the last result."""


class Health:
    """Probes the services of all systems and keeps the last results."""

    def __init__(self, systems: SystemRegistry) -> None:
        self._systems = systems
        self._task: asyncio.Task[None] | None = None
        self._probes: dict[SystemRuntime, asyncio.Task[None]] = {}
        self._probe_started: dict[str, float] = {}
        self.services: dict[str, list[ServiceHealth]] = {}
        self.checked: dict[str, datetime] = {}
        self.failing_since: dict[str, datetime] = {}
        """System with an unresponsive service -> since when."""

    async def start(self) -> None:
        """Probe all services once, then at intervals in the background."""
        await asyncio.gather(*map(self._probe_system, self._systems))
        self._task = asyncio.create_task(self._run(), name="health")

    async def stop(self) -> None:
        """Cancel all probes."""
        tasks = [*self._probes.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Bring what is known up to date, as far as that is quick."""
        oldest = time.monotonic() - FRESH
        probes = [self._probe(system) for system in self._systems if self._probe_started.get(system.name, 0.0) < oldest]
        if probes:
            await asyncio.wait(probes, timeout=_PATIENCE)

    def renew(self, name: str) -> None:
        """Drop what is known of a system that is gone or has changed; one that is there is probed at once."""
        for service in {each.service_type for each in self.services.pop(name, [])}:
            metrics.HEALTHY.remove(name, service)
        self.checked.pop(name, None)
        self.failing_since.pop(name, None)
        self._probe_started.pop(name, None)
        if (system := self._systems.find(name)) is not None:
            self._probe(system)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            if probes := [self._probe(system) for system in self._systems]:
                await asyncio.wait(probes)

    def _probe(self, system: SystemRuntime) -> asyncio.Task[None]:
        """The probe of a system that is under way, or a new one."""
        task = self._probes.get(system)
        if task is None:
            task = self._probes[system] = asyncio.create_task(self._probe_system(system))
            task.add_done_callback(lambda _: self._probes.pop(system, None))
        return task

    async def _probe_system(self, system: SystemRuntime) -> None:
        self._probe_started[system.name] = time.monotonic()
        found = list(
            await asyncio.gather(
                _probe("scheduler", system.scheduler.ping),
                _probe("ssh", system.host.ping),
                *(_probe_file_system(system, each.path) for each in system.file_systems),
                *(_probe("s3", each.ping) for each in [system.transfers.object_store] if each is not None),
            )
        )
        if self._systems.find(system.name) is not system:  # exchanged meanwhile
            return
        self.services[system.name] = found
        self.checked[system.name] = now = datetime.now(UTC)
        if all(each.healthy for each in found):
            self.failing_since.pop(system.name, None)
        else:
            self.failing_since.setdefault(system.name, now)
        for service in {each.service_type for each in found}:
            healthy = all(each.healthy for each in found if each.service_type == service)
            metrics.HEALTHY.labels(system.name, service).set(healthy)


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
