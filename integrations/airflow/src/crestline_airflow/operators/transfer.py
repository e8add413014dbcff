"""What upload and download have in common: a plain FirecREST moves large files in jobs, which are waited for."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import TriggerEvent

from crestline.client import BlockingSystem
from crestline.model import CrestlineError, JobNotFoundError
from crestline_airflow.operators.base import FirecRESTBaseOperator
from crestline_airflow.shared import Shared
from crestline_airflow.triggers import FirecRESTJobTrigger
from crestline_airflow.versions import TaskDeferralTimeout

if TYPE_CHECKING:
    from airflow.sdk import Context

_STORED_AS = "firecrest_transfer_jobs"


class FirecRESTTransferTrigger(FirecRESTJobTrigger):
    """Fires when all of these transfer jobs have ended, however they did: the worker that goes on finds out.

    A kill cancels them.
    """

    def __init__(self, firecrest_conn_id: str, system: str, job_ids: Sequence[str]) -> None:
        super().__init__(firecrest_conn_id, system, "", log_output=False)
        self.job_ids = list(job_ids)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"firecrest_conn_id": self.firecrest_conn_id, "system": self.system, "job_ids": self.job_ids}
        return f"{__name__}.{type(self).__name__}", kwargs

    async def _run(self, shared: Shared) -> TriggerEvent:
        for job_id in self.job_ids:
            with contextlib.suppress(JobNotFoundError):  # it has ended so long ago that it is forgotten
                await self._ended(shared, job_id)
        return TriggerEvent({"job_ids": self.job_ids})

    async def _cancel(self, shared: Shared) -> None:
        for job_id in self.job_ids:
            self.job_id = job_id
            await super()._cancel(shared)


class FirecRESTTransferOperator(FirecRESTBaseOperator):
    """An operator that moves files: `transfer` is called once, and again when the jobs that it left have ended.

    Args:
        deferrable: wait for transfer jobs in the triggerer. Default: `[operators] default_deferrable`.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    @abc.abstractmethod
    def transfer(self, context: Context, *, wait: bool) -> Any:
        """Move the files; what is there already does not travel again.

        Args:
            wait: for transfer jobs; otherwise their ids go to `wait_for`.
        """

    def execute(self, context: Context) -> Any:
        return self.transfer(context, wait=not self.deferrable)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on where `execute` deferred: the jobs have ended, or nothing can be found out about them."""
        return self.transfer(context, wait=True)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow ends a deferral that lasts too long without a word to the trigger: here the jobs are cancelled."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            ti: Any = context["ti"]
            job_ids = ti.xcom_pull(task_ids=self.task_id, key=_STORED_AS, map_indexes=ti.map_index)
            with self.hook.get_conn(self.system) as system:
                for job_id in job_ids or ():
                    self._give_up(system, job_id)
            raise

    def wait_for(self, system: BlockingSystem, job_ids: Sequence[str], context: Context) -> None:
        """Leave the worker until these transfer jobs have ended; returns if there are none."""
        if not job_ids:
            return
        self.log.info("Waiting for the transfer jobs %s on %s", ", ".join(job_ids), system.name)
        context["ti"].xcom_push(key=_STORED_AS, value=list(job_ids))
        self.defer(
            trigger=FirecRESTTransferTrigger(self.firecrest_conn_id, system.name, job_ids),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def _give_up(self, system: BlockingSystem, job_id: str) -> None:
        try:
            system.cancel(job_id)
        except CrestlineError as error:
            self.log.warning("Transfer job %s could not be cancelled: %s", job_id, error)
