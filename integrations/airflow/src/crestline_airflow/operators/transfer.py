"""The base class of upload and download. A plain FirecREST transfers large files with jobs, which it waits for."""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import TriggerEvent

from crestline.client import BlockingSystem, TransferReport
from crestline.model import CrestlineError, FileMissingError, JobNotFoundError
from crestline_airflow.compat import TaskDeferralTimeout
from crestline_airflow.failures import short_failures
from crestline_airflow.operators.base import FirecRESTBaseOperator
from crestline_airflow.shared import Shared
from crestline_airflow.triggers import FirecRESTJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_STORED_AS = "firecrest_transfer_jobs"

_DEFERRALS = 4
"""Maximum number of deferrals. A directory takes two: one for its archive, one for its transfer or for unpacking.
The others are for directories that change in the meantime. After that, the worker itself waits, so that the task ends.
"""


class FirecRESTTransferTrigger(FirecRESTJobTrigger):
    """Fires when all of these transfer jobs have ended in any state. The resumed task checks their results.

    Killing the task cancels the jobs, and removes their temporary files.
    """

    def __init__(
        self, firecrest_conn_id: str, system: str, job_ids: Sequence[str], temporary: Sequence[str] = ()
    ) -> None:
        super().__init__(firecrest_conn_id, system, "", log_output=False)
        self.job_ids = list(job_ids)
        self.temporary = list(temporary)

    async def _run(self, shared: Shared) -> TriggerEvent:
        for job_id in self.job_ids:
            with contextlib.suppress(JobNotFoundError):  # the scheduler no longer lists a job that ended long ago
                await self._ended(shared, job_id)
        return TriggerEvent({"job_ids": self.job_ids})

    async def _cancel(self, shared: Shared) -> None:
        for job_id in self.job_ids:
            self.job_id = job_id
            try:
                await super()._cancel(shared)
            except CrestlineError as error:  # the job may have ended; continue with the others
                self.log.warning("Transfer job %s could not be cancelled: %s", job_id, error)
        for path in self.temporary if shared.system is not None else ():
            with contextlib.suppress(FileMissingError):
                await shared.system.remove(path)


class FirecRESTTransferOperator(FirecRESTBaseOperator):
    """An operator that transfers files. It calls `transfer` first, and again whenever its transfer jobs have ended.

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
        self._deferrals = 0
        self._deadline: float | None = None

    @abc.abstractmethod
    def transfer(self, context: Context, *, wait: bool) -> Any:
        """Transfer the files with `run_transfers`. Files that are already transferred are skipped.

        Args:
            wait: wait for transfer jobs.
        """

    def execute(self, context: Context) -> Any:
        if self.execution_timeout is not None:
            self._deadline = time.time() + self.execution_timeout.total_seconds()
        with short_failures():
            return self.transfer(context, wait=not self.deferrable)

    def execute_complete(
        self, context: Context, event: dict[str, Any], deferrals: int = 1, deadline: float | None = None
    ) -> Any:
        """Resume the task after a deferral: the transfer jobs have ended, or their state cannot be determined.

        Args:
            deferrals: the number of deferrals so far.
            deadline: the end of `execution_timeout` in seconds since the epoch. All deferrals share it.
        """
        self._deferrals = deferrals
        self._deadline = deadline
        return self.transfer(context, wait=deferrals >= _DEFERRALS)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel the jobs if the deferral timed out. Airflow ends such deferrals without notifying the trigger."""
        try:
            with short_failures():
                return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            ti: Any = context["ti"]
            left = ti.xcom_pull(task_ids=self.task_id, key=_STORED_AS, map_indexes=ti.map_index)
            if left:
                with self.hook.get_conn(self.system) as system:
                    self._give_up(system, **left)
            raise

    def run_transfers(self, system: BlockingSystem, transfers: Iterable[TransferReport], context: Context) -> None:
        """Run the transfers one after the other. If they start jobs, defer until these have ended."""
        left = TransferReport()
        try:
            for report in transfers:
                left += report
        except BaseException:
            self._give_up(system, left.pending, left.temporary)
            raise
        if not left.pending:
            return
        timeout = None if self._deadline is None else timedelta(seconds=self._deadline - time.time())
        if timeout is not None and timeout <= timedelta(0):
            self._give_up(system, left.pending, left.temporary)
            raise TaskDeferralTimeout(
                f"The transfer took longer than execution_timeout ({self.execution_timeout}); its jobs are cancelled."
            )
        self.log.info("Waiting for the transfer jobs %s on %s", ", ".join(left.pending), system.name)
        context["ti"].xcom_push(
            key=_STORED_AS, value={"job_ids": list(left.pending), "temporary": list(left.temporary)}
        )
        self.defer(
            trigger=FirecRESTTransferTrigger(self.firecrest_conn_id, system.name, left.pending, left.temporary),
            method_name="execute_complete",
            kwargs={"deferrals": self._deferrals + 1, "deadline": self._deadline},
            timeout=timeout,
        )

    def _give_up(self, system: BlockingSystem, job_ids: Sequence[str], temporary: Sequence[str]) -> None:
        for job_id in job_ids:
            try:
                system.cancel(job_id)
            except CrestlineError as error:
                self.log.warning("Transfer job %s could not be cancelled: %s", job_id, error)
        for path in temporary:
            try:
                system.remove(path)
            except FileMissingError:
                continue
            except CrestlineError as error:
                self.log.warning("%s could not be removed: %s", path, error)


def transfer_key(context: Context) -> str:
    """Return the key of a task's transfers. Tries of the same task instance resume each other's work."""
    ti: Any = context["ti"]
    return f"{ti.dag_id}\n{ti.task_id}\n{ti.run_id}\n{ti.map_index}"
