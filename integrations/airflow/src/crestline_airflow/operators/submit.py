"""A task that is a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk.exceptions import TaskDeferralTimeout

from crestline.client import BlockingSystem
from crestline.model import Job, JobFailedError, JobNotFoundError, JobSpec, JobState
from crestline_airflow.attempts import Attempt, Attempts
from crestline_airflow.operators.base import FirecRESTBaseOperator, absolute
from crestline_airflow.triggers import FirecRESTJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_TAIL = 20
"""lines of stderr in the message of a job that failed"""


class FirecRESTSubmitOperator(FirecRESTBaseOperator):
    """Submits a batch script, once per attempt, and waits for the job; its output appears in the task log.

    A try that follows a lost worker goes on with the job that is there. A task that is killed, cleared while it runs,
    or out of time cancels its job. The XCom says what became of it: `job_id`, `system`, `state`, `exit_code`,
    `working_dir`, and the paths `stdout` and `stderr`.

    Args:
        system: the system's name; None: the one that the connection names.
        script: the script's text, or the name of an `.sh` or `.sbatch` file beside the DAG; a template.
        working_dir: where the job runs; a relative path is below the user's default directory, which is the default.
        account: the account or project that pays.
        environment: variables for the job.
        deferrable: wait in the triggerer, not on a worker; then the output appears when the job has ended.
            Default: `[operators] default_deferrable`.

    Raises:
        JobFailedError: the job did not complete.
    """

    template_fields = ("system", "script", "working_dir", "account", "environment")
    template_ext = (".sh", ".sbatch")
    template_fields_renderers = {"script": "bash", "environment": "json"}  # noqa: RUF012

    def __init__(
        self,
        *,
        script: str,
        working_dir: str | None = None,
        account: str | None = None,
        environment: Mapping[str, str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow takes a text that ends in .sh for the name of a file.
        self.script = f"{script}\n" if isinstance(script, str) and "\n" in script else script
        self.working_dir = working_dir
        self.account = account
        self.environment = environment
        self.deferrable = deferrable
        self._system: BlockingSystem | None = None
        self._job_id: str | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        self._job_id, self._killed = None, False
        attempts = Attempts(context)
        with self._connected() as system:
            attempt, job_id = self._submit(system, attempts)
            if self.deferrable:
                self.defer(
                    trigger=FirecRESTJobTrigger(self.firecrest_conn_id, system.name, job_id),
                    method_name="execute_complete",
                    timeout=self.execution_timeout,
                )
            return self._finish(system, attempts, attempt, job_id)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on where `execute` deferred: the job has ended."""
        attempts = Attempts(context)
        with self._connected() as system:
            return self._finish(system, attempts, attempts.last(), event["job_id"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow ends a deferral that lasts too long without a word to the trigger: here the job is cancelled."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            attempt = Attempts(context).last()
            if attempt is not None and attempt.job_id is not None:
                self._cancel(attempt.job_id)
            raise

    def on_kill(self) -> None:
        self._killed = True
        if self._job_id is not None:
            self._cancel(self._job_id)

    def _submit(self, system: BlockingSystem, attempts: Attempts) -> tuple[Attempt, str]:
        """The job of this attempt, new or found."""
        attempt = self._unfinished(system, attempts) or attempts.begin()
        if attempt.job_id is not None:
            self.log.info("Job %s on %s was submitted before; going on with it", attempt.job_id, system.name)
        else:
            spec = JobSpec(
                script=self.script,
                workdir=absolute(system, self.working_dir) if self.working_dir else "",
                account=self.account,
                environment=self.environment or {},
            )
            attempt = attempts.submitted(attempt, system.submit(spec, key=attempt.key).job_id)
            self.log.info("Submitted job %s to %s", attempt.job_id, system.name)
        assert attempt.job_id is not None  # noqa: S101
        self._job_id = attempt.job_id
        if self._killed:  # while the submission was on its way
            self._cancel(attempt.job_id)
        return attempt, attempt.job_id

    def _unfinished(self, system: BlockingSystem, attempts: Attempts) -> Attempt | None:
        """The last attempt, if this try shall go on with it."""
        attempt = attempts.last()
        if attempt is None or attempt.ended:
            return None
        if attempts.was_cleared_since(attempt):
            if attempt.job_id is not None:
                self._cancel(attempt.job_id)
            return None
        if attempt.job_id is not None:
            try:
                job = system.job(attempt.job_id)
            except JobNotFoundError:  # it may be too young to be seen: whoever waits for it finds out
                return attempt
            if job.is_finished and not job.state.is_success:
                attempts.ended(attempt)
                return None
        return attempt

    def _finish(
        self, system: BlockingSystem, attempts: Attempts, attempt: Attempt | None, job_id: str
    ) -> dict[str, Any]:
        """Wait for the job, with its output in the task log; what became of it is the XCom."""
        try:
            job = self._started(system, job_id)
            last_lines = self._log_output(system, job)
            job = system.metadata(system.wait(job))
        except JobNotFoundError:
            if attempt is not None:
                attempts.ended(attempt)
            raise
        if not job.state.is_success:
            if attempt is not None:
                attempts.ended(attempt)
            raise _failure(job, self._last_stderr(system, job, last_lines))
        self.log.info("Job %s has completed", job.job_id)
        return {
            "job_id": job.job_id,
            "system": system.name,
            "state": str(job.state),
            "exit_code": job.exit_code,
            "working_dir": job.workdir,
            "stdout": job.stdout,
            "stderr": job.stderr,
        }

    def _started(self, system: BlockingSystem, job_id: str) -> Job:
        """The job once it runs, or has ended, with the paths of its output."""
        job = None
        for event in system.watch(job_id):
            job = event.job
            self.log.info("Job %s is %s%s", job.job_id, event.state, f" ({event.reason})" if event.reason else "")
            if not event.state.is_waiting and event.state not in (JobState.UNKNOWN, JobState.CONFIGURING):
                break
        assert job is not None  # noqa: S101
        return system.metadata(job)

    def _log_output(self, system: BlockingSystem, job: Job) -> list[str]:
        """Put the job's output into the task log until it has ended; returns its last lines."""
        last: deque[str] = deque(maxlen=_TAIL)
        if job.stdout is not None:
            for line in _lines(system.follow(job)):
                self.log.info("%s", line)
                last.append(line)
        return list(last)

    def _last_stderr(self, system: BlockingSystem, job: Job, last_stdout: list[str]) -> list[str]:
        if job.stderr is None or job.stderr == job.stdout:
            return last_stdout
        return system.read_text(job.stderr).splitlines()[-_TAIL:]

    def _cancel(self, job_id: str) -> None:
        self.log.info("Cancelling job %s", job_id)
        if self._system is not None:
            self._system.cancel(job_id)
        else:
            with self.hook.get_conn(self.system) as system:
                system.cancel(job_id)

    @contextmanager
    def _connected(self) -> Iterator[BlockingSystem]:
        """The system, also at hand for `on_kill`, which a signal may call at any moment."""
        with self.hook.get_conn(self.system) as self._system:
            try:
                yield self._system
            finally:
                self._system = None


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Whole lines of a text that comes in pieces."""
    begun = ""
    for text in texts:
        *whole, begun = (begun + text).split("\n")
        yield from whole
    if begun:
        yield begun


def _failure(job: Job, last_lines: list[str]) -> JobFailedError:
    ended = f"Job {job.job_id} ended as {job.state}"
    if job.exit_code is not None:
        ended += f" with exit code {job.exit_code}"
    if job.signal:
        ended += f" by signal {job.signal}"
    if job.reason:
        ended += f" ({job.reason})"
    if not last_lines:
        return JobFailedError(f"{ended}; it wrote nothing to its stderr.", job)
    return JobFailedError("\n".join([f"{ended}. The end of its stderr, {job.stderr}:", *last_lines]), job)
