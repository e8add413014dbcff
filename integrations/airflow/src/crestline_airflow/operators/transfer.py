"""What upload and download have in common: a plain FirecREST moves large files in jobs, which are waited for."""

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
"""A directory takes two: one for its archive, one for its transfer or for unpacking. The others are for directories
that change meanwhile; then the worker waits itself, so that it comes to an end."""


class FirecRESTTransferTrigger(FirecRESTJobTrigger):
    """Fires when all of these transfer jobs have ended, however they did: the worker that goes on finds out.

    A kill cancels them, and removes the temporary files that they were to make or to read.
    """

    def __init__(
        self, firecrest_conn_id: str, system: str, job_ids: Sequence[str], temporary: Sequence[str] = ()
    ) -> None:
        super().__init__(firecrest_conn_id, system, "", log_output=False)
        self.job_ids = list(job_ids)
        self.temporary = list(temporary)

    async def _run(self, shared: Shared) -> TriggerEvent:
        for job_id in self.job_ids:
            with contextlib.suppress(JobNotFoundError):  # it has ended so long ago that it is forgotten
                await self._ended(shared, job_id)
        return TriggerEvent({"job_ids": self.job_ids})

    async def _cancel(self, shared: Shared) -> None:
        for job_id in self.job_ids:
            self.job_id = job_id
            try:
                await super()._cancel(shared)
            except CrestlineError as error:  # it may have ended; the next ones must not live on for that
                self.log.warning("Transfer job %s could not be cancelled: %s", job_id, error)
        for path in self.temporary if shared.system is not None else ():
            with contextlib.suppress(FileMissingError):
                await shared.system.remove(path)


class FirecRESTTransferOperator(FirecRESTBaseOperator):
    """An operator that moves files: `transfer` is called once, and again whenever the jobs that it left have ended.

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
        """Move the files by way of `run_transfers`; what is there already does not travel again.

        Args:
            wait: for transfer jobs.
        """

    def execute(self, context: Context) -> Any:
        if self.execution_timeout is not None:
            self._deadline = time.time() + self.execution_timeout.total_seconds()
        with short_failures():
            return self.transfer(context, wait=not self.deferrable)

    def execute_complete(
        self, context: Context, event: dict[str, Any], deferrals: int = 1, deadline: float | None = None
    ) -> Any:
        """Go on where the task was deferred: the jobs have ended, or nothing can be found out about them.

        Args:
            deferrals: so often it has been so far.
            deadline: end of `execution_timeout`, which all deferrals share; in seconds since the epoch.
        """
        self._deferrals = deferrals
        self._deadline = deadline
        return self.transfer(context, wait=deferrals >= _DEFERRALS)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow ends a deferral that lasts too long without a word to the trigger: here the jobs are cancelled."""
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
        """Do one transfer after the other; where they leave jobs, leave the worker until these have ended."""
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
    """Return the key of what a task moves: its tries resume each other's work, and that of no other task."""
    ti: Any = context["ti"]
    return f"{ti.dag_id}\n{ti.task_id}\n{ti.run_id}\n{ti.map_index}"
