"""Sensors without a worker. Unlike an operator's trigger they own no job, so a kill cancels none."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from crestline.client import System
from crestline.model import CrestlineError, Job
from crestline_airflow.links import has_pages
from crestline_airflow.shared import acquire, outlast, release
from crestline_airflow.triggers import FirecRESTTrigger, packed


class FirecRESTSensorTrigger(FirecRESTTrigger):
    """Fires once, with the return value of `wait_on`, or with a dictionary that has an `error`.

    All triggers of one connection share an open system with its job monitor. While the gateway or its token issuer is
    unavailable, the trigger waits.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system

    @abc.abstractmethod
    async def wait_on(self, system: System) -> Any:
        """Wait and return the payload of the event."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        payload: Any
        try:
            shared = await acquire(self.firecrest_conn_id, self.system)
            try:
                assert shared.system is not None  # noqa: S101
                payload = await self.wait_on(shared.system)
            finally:
                await release(shared)
        except CrestlineError as error:
            payload = {"error": packed(error)}
        yield TriggerEvent(payload)


class FirecRESTFileSensorTrigger(FirecRESTSensorTrigger):
    """Fires when files match the path. The event is the list of matches.

    Args:
        poke_interval: seconds between two checks.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None, path: str, poke_interval: float) -> None:
        super().__init__(firecrest_conn_id, system)
        self.path = path
        self.poke_interval = poke_interval

    async def wait_on(self, system: System) -> list[str]:
        path = await outlast(self.firecrest_conn_id, lambda: system.resolve_path(self.path))
        return await system.wait_for_path(path, interval=self.poke_interval)


class FirecRESTJobSensorTrigger(FirecRESTSensorTrigger):
    """Fires when a job has ended. The event is the sensor's return value, so that a worker need not query it again."""

    def __init__(self, firecrest_conn_id: str, system: str | None, job_id: str) -> None:
        super().__init__(firecrest_conn_id, system)
        self.job_id = job_id

    async def wait_on(self, system: System) -> dict[str, Any]:
        return found(await system.wait(self.job_id), system.name) | {"has_pages": has_pages(system)}


def found(job: Job, system: str) -> dict[str, Any]:
    """Return the XCom of a job that no task here has submitted."""
    return {
        "job_id": job.job_id,
        "system": system,
        "state": str(job.state),
        "exit_code": job.exit_code,
        "working_dir": job.workdir,
    }
