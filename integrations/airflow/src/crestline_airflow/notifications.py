"""Jobs that are submitted when a DAG or a task succeeds, fails or misses a deadline."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.notifier import BaseNotifier

from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.rendered import ExactRendering, single
from crestline_airflow.resources import JOB_FIELDS, job_spec
from crestline_airflow.shared import outlast

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["FirecRESTJobNotifier"]


class FirecRESTJobNotifier(ExactRendering, BaseNotifier):
    """Submits a job and does not wait for it, for example to archive results or to collect what a failure left.

    Works as a callback of DAGs and tasks (`on_failure_callback=`, ...) and, in an `AsyncCallback`, of a
    `DeadlineAlert`. One event submits one job, also if Airflow delivers it twice. All arguments are templates.

    Example::

        DAG("sweep", on_failure_callback=FirecRESTJobNotifier(command="tar czf logs.tgz run1/*.log"))

    Args:
        system: the system's name; None: the one of the connection.
        firecrest_conn_id: the Airflow connection.
        context: of Airflow.
        job: the arguments of FirecRESTSubmitOperator that say what to run (`script`, which is text here, `command` or
            `script_path`), where (`working_dir`, `job_name`) and with what (from `account` to `environment`).

    Raises:
        TypeError: an argument is unknown.
    """

    template_fields = ("firecrest_conn_id", "system", *JOB_FIELDS)

    def __init__(
        self,
        *,
        system: str | None = None,
        firecrest_conn_id: str = FirecRESTHook.default_conn_name,
        context: Context | None = None,
        **job: Any,
    ) -> None:
        super().__init__(**({"context": context} if context is not None else {}))
        if unknown := set(job) - set(JOB_FIELDS):
            raise TypeError(f"FirecRESTJobNotifier takes no {', '.join(sorted(unknown))}")
        self.system = system
        self.firecrest_conn_id = firecrest_conn_id
        for name in JOB_FIELDS:
            setattr(self, name, job.get(name))

    def notify(self, context: Context) -> None:
        """Submit the job; for callbacks, which run in the DAG processor."""
        with FirecRESTHook(self.firecrest_conn_id).get_conn(self.system) as system:
            working_dir = single(self.working_dir, "working_dir")
            workdir = system.resolve_path(working_dir) if working_dir else ""
            job = system.submit(job_spec(self, workdir), key=self._key(context))
            self.log.info("Submitted job %s to %s", job.job_id, system.name)

    async def async_notify(self, context: Context) -> None:
        """Submit the job; for deadlines, in the triggerer, where it waits for a gateway that is down."""
        key = self._key(context)

        async def submit() -> None:
            async with await FirecRESTHook(self.firecrest_conn_id).aget_conn(self.system) as system:
                working_dir = single(self.working_dir, "working_dir")
                workdir = await system.resolve_path(working_dir) if working_dir else ""
                job = await system.submit(job_spec(self, workdir), key=key)
                self.log.info("Submitted job %s to %s", job.job_id, system.name)

        await outlast(self.firecrest_conn_id, submit)

    def _key(self, context: Context) -> str:
        """Names the event: the try of a task, or the end of a DAG run, and this notifier's own fields."""
        values: Mapping[str, Any] = context  # type: ignore[assignment]
        ti, dag_run = (values.get(name) for name in ("ti", "dag_run"))
        event = [
            str(getattr(source, name, ""))
            for source, names in (
                (dag_run, ("dag_id", "run_id", "clear_number", "start_date")),
                (ti, ("id", "dag_id", "run_id", "task_id", "map_index", "try_number")),
            )
            for name in names
        ]
        if not any(event):
            event = [secrets.token_hex(16)]
        fields = [repr(getattr(self, name)) for name in self.template_fields]
        return "airflow-event-" + hashlib.sha256("\0".join([*event, *fields]).encode()).hexdigest()
