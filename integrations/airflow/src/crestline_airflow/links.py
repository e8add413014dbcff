"""The button of a task that leads to its job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from crestline.client import BlockingSystem, System
from crestline.model import ConfigError
from crestline_airflow.rendered import single

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from crestline_airflow.hooks import FirecRESTHook

logger = logging.getLogger(__name__)


class FirecRESTJobLink(BaseOperatorLink):
    """Leads to the page that the connection names as `job_page`, or to that of a Crestline gateway.

    Airflow asks for it on the worker, when the task is deferred and when it ends, and keeps the answer; while the job
    runs, the operator itself has stored it.
    """

    @property
    def name(self) -> str:
        """The text of the button in the web interface."""
        return "HPC job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """URL of the page of the operator's job; empty before the submission, and if the API has no pages."""
        job_id = getattr(operator, "_job_id", None)
        if job_id is None:
            return ""
        hook = operator.hook  # type: ignore[attr-defined]
        system = single(operator.system, "system") or hook.site().system or ""  # type: ignore[attr-defined]
        return _page(hook, system, job_id, getattr(operator, "_gateway_has_pages", True))


def has_pages(system: System | BlockingSystem) -> bool:
    """Whether the gateway shows jobs to people: a Crestline gateway does, which also serves parts of files."""
    return system.supports_ranges


def page_of(hook: FirecRESTHook, system: System | BlockingSystem, job_id: str) -> str:
    """The page of a job; empty where there is none."""
    return _page(hook, system.name, job_id, has_pages(system))


def _page(hook: FirecRESTHook, system: str, job_id: str, of_gateway: bool) -> str:
    """An invalid `job_page` is logged: it must not fail the task of a running job."""
    try:
        return hook.job_page(system, job_id, of_gateway=of_gateway)
    except ConfigError as error:
        logger.warning("The link to job %s is missing: %s", job_id, error)
        return ""
