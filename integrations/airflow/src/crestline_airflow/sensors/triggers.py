"""Sensors without a worker. Unlike an operator's trigger these own nothing: a kill cancels no job."""

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
    """Fires once, with what `wait_on` returns, or with a dictionary that has an `error`.

    All triggers of one connection share an open system, and so its job monitor. While the gateway or its token issuer
    is down, the trigger waits.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system

    @abc.abstractmethod
    async def wait_on(self, system: System) -> Any:
        """The payload of the event, once there is one."""

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
    """Fires when something matches the path; the event is the list of what does.

    Args:
        poke_interval: seconds between two looks.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None, path: str, poke_interval: float) -> None:
        super().__init__(firecrest_conn_id, system)
        self.path = path
        self.poke_interval = poke_interval

    async def wait_on(self, system: System) -> list[str]:
        path = await outlast(self.firecrest_conn_id, lambda: system.resolve_path(self.path))
        return await system.wait_for_path(path, interval=self.poke_interval)


class FirecRESTJobSensorTrigger(FirecRESTSensorTrigger):
    """Fires when a job has ended; the event is what the sensor returns, so that a worker need not ask again."""

    def __init__(self, firecrest_conn_id: str, system: str | None, job_id: str) -> None:
        super().__init__(firecrest_conn_id, system)
        self.job_id = job_id

    async def wait_on(self, system: System) -> dict[str, Any]:
        return found(await system.wait(self.job_id), system.name) | {"has_pages": has_pages(system)}


def found(job: Job, system: str) -> dict[str, Any]:
    """What became of a job that no task here has submitted, as an XCom."""
    return {
        "job_id": job.job_id,
        "system": system,
        "state": str(job.state),
        "exit_code": job.exit_code,
        "working_dir": job.workdir,
    }
