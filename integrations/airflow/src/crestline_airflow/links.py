"""The button of a task that leads to its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class FirecRESTJobLink(BaseOperatorLink):
    """Leads to the page that the connection names as `job_page`, or to that of a Crestline gateway.

    Airflow asks for it on the worker, when the task is deferred and when it ends, and keeps the answer.
    """

    @property
    def name(self) -> str:
        """What the button says."""
        return "HPC job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page of the job that the operator runs; empty before it has one, and where there are no pages."""
        job_id = getattr(operator, "_job_id", None) or XCom.get_value(ti_key=ti_key, key="job_id")
        if job_id is None:
            return ""
        hook = operator.hook  # type: ignore[attr-defined]
        system = operator.system or hook.site().system or ""  # type: ignore[attr-defined]
        return str(hook.job_page(system, job_id, of_gateway=getattr(operator, "_gateway_has_pages", True)))
