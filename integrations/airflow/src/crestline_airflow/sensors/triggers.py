"""Sensors without a worker. Unlike an operator's trigger these own nothing: a kill cancels no job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from crestline_airflow.hooks import FirecRESTHook


class FirecRESTFileSensorTrigger(BaseTrigger):
    """Fires when something matches the path; the event is the list of what does.

    Args:
        poke_interval: seconds between two looks.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None, path: str, poke_interval: float) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system
        self.path = path
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {
            "firecrest_conn_id": self.firecrest_conn_id,
            "system": self.system,
            "path": self.path,
            "poke_interval": self.poke_interval,
        }
        return f"{__name__}.{type(self).__name__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with await FirecRESTHook(self.firecrest_conn_id).aget_conn(self.system) as system:
            found = await system.wait_for_path(self.path, interval=self.poke_interval)
        yield TriggerEvent(found)


class FirecRESTJobSensorTrigger(BaseTrigger):
    """Fires when a job has ended; the event is its id.

    It shares the job monitor of its connection with all other triggers of the triggerer.
    """

    def __init__(self, firecrest_conn_id: str, system: str | None, job_id: str) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"firecrest_conn_id": self.firecrest_conn_id, "system": self.system, "job_id": self.job_id}
        return f"{__name__}.{type(self).__name__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with await FirecRESTHook(self.firecrest_conn_id).aget_conn(self.system) as system:
            job = await system.wait(self.job_id)
        yield TriggerEvent(job.job_id)
