"""A task that waits for a job which it has not submitted."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from crestline.model import InvalidRequestError, Job, JobFailedError
from crestline_airflow.sensors.base import FirecRESTBaseSensor
from crestline_airflow.sensors.triggers import FirecRESTJobSensorTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTJobSensor(FirecRESTBaseSensor):
    """Waits until a job has ended, and fails unless it has completed. Killing the sensor leaves the job alone.

    The XCom says what became of the job: `job_id`, `system`, `state`, `exit_code` and `working_dir`.

    Args:
        job_id: the job's id on the system; a template.

    Raises:
        JobFailedError: the job did not complete.
        JobNotFoundError: the scheduler does not know it.
    """

    template_fields = ("system", "job_id")

    def __init__(self, *, job_id: str | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> Any:
        self.job_id = str(self.job_id).strip()
        if not self.job_id:
            raise InvalidRequestError("No job id was given.", hint="Check the template of job_id.")
        if not self.deferrable:
            return super().execute(context)
        done = self.poke(context)
        if done.is_done:
            return done.xcom_value
        self.wait_in_triggerer(FirecRESTJobSensorTrigger(self.firecrest_conn_id, self.system, self.job_id))

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Go on where `execute` deferred: the job has ended."""
        event = self.payload(event)
        with self.hook.get_conn(self.system) as system:
            return _checked(system.name, system.wait(event))

    def poke(self, context: Context) -> PokeReturnValue:
        with self.hook.get_conn(self.system) as system:
            with closing(system.watch(str(self.job_id))) as events:  # knows that fresh jobs may be invisible
                news = next(events)
            self.log.info("Job %s on %s is %s", news.job.job_id, system.name, news.state)
            if not news.state.is_terminal:
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=_checked(system.name, news.job))


def _checked(system: str, job: Job) -> dict[str, Any]:
    if not job.state.is_success:
        ended = f"Job {job.job_id} ended as {job.state}"
        reason = f" ({job.reason})" if job.reason else ""
        raise JobFailedError(f"{ended}{reason}.", job, hint="Look at its output, and at its reason.")
    return {
        "job_id": job.job_id,
        "system": system,
        "state": str(job.state),
        "exit_code": job.exit_code,
        "working_dir": job.workdir,
    }
