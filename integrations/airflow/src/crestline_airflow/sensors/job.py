"""A task that waits for a job that it has not submitted."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from crestline.client import BlockingSystem
from crestline.model import CrestlineError, Job, JobState
from crestline_airflow.failures import explanation, failure
from crestline_airflow.links import FirecRESTJobLink, has_pages
from crestline_airflow.live_output import last_lines
from crestline_airflow.rendered import required, single
from crestline_airflow.sensors.base import FirecRESTBaseSensor
from crestline_airflow.sensors.triggers import FirecRESTJobSensorTrigger, found

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTJobSensor(FirecRESTBaseSensor):
    """Waits until a job has ended, and fails unless it has completed. Killing the sensor does not cancel the job.

    The XCom has the job's `job_id`, `system`, `state`, `exit_code` and `working_dir`.

    Example::

        FirecRESTJobSensor(task_id="done", job_id="{{ dag_run.conf['job_id'] }}", deferrable=True)

    Args:
        job_id: the job's id on the system; a template.

    Raises:
        JobFailedError: the job failed.
        JobNotFoundError: unknown job.
    """

    operator_extra_links = (FirecRESTJobLink(),)
    template_fields = ("firecrest_conn_id", "system", "job_id")

    def __init__(self, *, job_id: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self._job_id: str | None = None
        self._gateway_has_pages = True

    def trigger(self) -> FirecRESTJobSensorTrigger:
        system = single(self.system, "system")
        return FirecRESTJobSensorTrigger(self.firecrest_conn_id, system, required(self.job_id, "job_id").strip())

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Resume after the deferral: the job has ended."""
        self._job_id = required(self.job_id, "job_id").strip()
        event = self.payload(event)
        self._gateway_has_pages = event.pop("has_pages")
        if event["state"] == JobState.COMPLETED:
            return event
        with self.hook.get_conn(self.system) as system:
            return self._checked(system, system.wait(event["job_id"]))

    def poll_once(self) -> PokeReturnValue:
        self._job_id = required(self.job_id, "job_id").strip()
        with self.hook.get_conn(self.system) as system:
            self._gateway_has_pages = has_pages(system)
            with closing(system.watch(self._job_id)) as events:  # takes into account that new jobs may be invisible
                news = next(events)
            self.log.info("Job %s on %s is %s", news.job.job_id, system.name, news.state)
            if not news.state.is_terminal:
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._checked(system, news.job))

    def _checked(self, system: BlockingSystem, job: Job) -> dict[str, Any]:
        if not job.state.is_success:
            with suppress(CrestlineError):  # then the path of its output is unknown
                job = system.metadata(job)
            path = job.stderr or job.stdout
            for line in explanation(job, path, last_lines(system, path, self.log)):
                self.log.error("%s", line)
            raise failure(job)
        return found(job, system.name)
