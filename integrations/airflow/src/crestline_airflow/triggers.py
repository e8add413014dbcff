"""Waiting without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from crestline_airflow.hooks import FirecRESTHook


class FirecRESTJobTrigger(BaseTrigger):
    """Fires when a job has ended; its event is a dictionary with the `job_id` and the `state`.

    All triggers of one connection in a triggerer share one job monitor: their number does not change how often the
    gateway is asked.
    """

    def __init__(self, firecrest_conn_id: str, system: str, job_id: str) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{__name__}.{type(self).__name__}",
            {"firecrest_conn_id": self.firecrest_conn_id, "system": self.system, "job_id": self.job_id},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with await FirecRESTHook(self.firecrest_conn_id).aget_conn(self.system) as system:
            job = await system.wait(self.job_id)
        yield TriggerEvent({"job_id": job.job_id, "state": str(job.state)})

    async def on_kill(self) -> None:
        """Cancel the job, if it is really the user who ended the task.

        Airflow 3.3 also calls this on a triggerer that was slow and has lost its triggers to another one. Then the
        task still waits, and so must the job.
        """
        if await self._is_deferred():
            return
        async with await FirecRESTHook(self.firecrest_conn_id).aget_conn(self.system) as system:
            await system.cancel(self.job_id)

    async def _is_deferred(self) -> bool:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti: Any = self.task_instance
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        return "deferred" in states.get(ti.run_id, {}).values()
