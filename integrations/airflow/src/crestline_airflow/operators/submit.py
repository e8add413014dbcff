"""The operator that submits a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import XComArg, conf, get_listener_manager
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import StartTriggerArgs

from crestline.client import BlockingSystem
from crestline.model import CrestlineError, Job, JobFailedError, JobNotFoundError, JobState
from crestline_airflow import lineage
from crestline_airflow.attempts import Attempt, Attempts
from crestline_airflow.compat import HAS_POLICIES, TaskDeferralError, TaskDeferralTimeout, TaskDeferred
from crestline_airflow.failures import FirecRESTRetryPolicy, explanation, failure, short_failures, to_airflow_error
from crestline_airflow.links import FirecRESTJobLink, has_pages, page_of
from crestline_airflow.live_output import STORED_AS as OUTPUT_STORED_AS
from crestline_airflow.live_output import last_lines, logged
from crestline_airflow.operators.base import FirecRESTBaseOperator
from crestline_airflow.rendered import single, texts
from crestline_airflow.resources import JOB_FIELDS, RESOURCES, after_jobs, job_spec
from crestline_airflow.triggers import FirecRESTJobTrigger, FirecRESTSubmitTrigger, news, unpacked
from crestline_airflow.xcom import outcome

if TYPE_CHECKING:
    from airflow.sdk import Context

_FIELDS = ("system", "after", "log_output", *JOB_FIELDS)
"""Fields of the operator that the trigger needs if the task starts in the triggerer."""


class FirecRESTSubmitOperator(FirecRESTBaseOperator):
    """Submits a batch script, once per attempt, and waits for the job. The job's output appears in the task log.

    After the loss of a worker or a triggerer, the next try resumes the existing job. If a task is killed, cleared while
    it runs, or timed out, its job is cancelled. The XCom describes the outcome: `job_id`, `system`, `state`,
    `exit_code`, `working_dir`, the paths `stdout` and `stderr`, `times` (seconds since the epoch), `node_hours`, and
    for an array its `elements`. The XCom `job_id` is available as soon as the job is submitted.

    All arguments that become part of the job are templates.

    Example::

        FirecRESTSubmitOperator(task_id="scf", command="srun pw.x -i scf.in", nodes=2, time_limit="00:20:00")

    Args:
        system: the system's name. None: the system of the connection.
        script: the script's text, or the name of an `.sh` or `.sbatch` file next to the DAG.
        command: shell commands instead of a script. The resources below are added as directives.
        script_path: a script on the system, instead of `script`.
        working_dir: the job's working directory. Relative paths are below the user's default directory, which is also
            the default.
        job_name: the name of the job in the scheduler.
        account: the account or project to charge.
        partition, reservation, constraint, qos: as the scheduler names them.
        time_limit: `[days-]hours:minutes:seconds`, or seconds.
        nodes, tasks, tasks_per_node, cpus_per_task, gpus: the number to request.
        memory: memory per node, with its unit (`4G`).
        exclusive: do not share the nodes with other jobs.
        array: indexes in the syntax of `sbatch --array` (`0-9%2`). The Airflow task ends with the last array task, and
            fails if one of them does. The output of array tasks is not logged.
        dependency: the value of `sbatch --dependency`.
        after: ids of upstream tasks of this DAG run with `wait=False`. The job starts when their jobs have completed.
        directives: further options of `sbatch`, each as `--option=value`.
        environment: environment variables of the job.
        inputs, outputs: paths on the system that the job reads and writes, for lineage.
        wait: whether to wait for the job. With False, the task ends after the submission, and the job continues.
        log_output: write the job's output to the task log.
        deferrable: wait in the triggerer, not on a worker. Default: `[operators] default_deferrable`.
        end_from_trigger: end a deferred task in the triggerer if its job completes, which saves the seconds that a
            worker takes to start. None: only if there is nothing to do for a worker, that is without outlets, success
            callbacks, `post_execute`, listeners (OpenLineage), multiple outputs, a custom XCom backend, or a subclass
            of this operator.
        retry_policy: the failures to retry. Default: FirecRESTRetryPolicy().
        start_from_trigger: submit in the triggerer as well, and use no worker unless the task fails. Airflow does not
            notify listeners, including OpenLineage, of such tasks. A mapped task uses a worker for its submission.

    Raises:
        JobFailedError: the job did not complete.
    """

    template_fields = ("firecrest_conn_id", "system", *JOB_FIELDS, "after", "inputs", "outputs")
    template_ext = (".sh", ".sbatch")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "script": "bash",
        "command": "bash",
        "environment": "json",
    }
    operator_extra_links = (FirecRESTJobLink(),)

    start_from_trigger = False

    def __init__(
        self,
        *,
        script: str | None = None,
        command: str | None = None,
        script_path: str | None = None,
        working_dir: str | None = None,
        job_name: str | None = None,
        account: str | None = None,
        partition: str | None = None,
        reservation: str | None = None,
        constraint: str | None = None,
        qos: str | None = None,
        time_limit: str | int | None = None,
        nodes: int | str | None = None,
        tasks: int | str | None = None,
        tasks_per_node: int | str | None = None,
        cpus_per_task: int | str | None = None,
        memory: str | None = None,
        gpus: int | str | None = None,
        exclusive: bool = False,
        array: str | None = None,
        dependency: str | None = None,
        after: str | Sequence[str] = (),
        directives: str | Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        inputs: str | Sequence[str] = (),
        outputs: str | Sequence[str] = (),
        wait: bool = True,
        log_output: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        end_from_trigger: bool | None = None,
        start_from_trigger: bool = False,
        retry_policy: Any = None,
        **kwargs: Any,
    ) -> None:
        retry_policy = retry_policy or FirecRESTRetryPolicy()
        super().__init__(**kwargs, **({"retry_policy": retry_policy} if HAS_POLICIES else {}))
        self.retry_policy = retry_policy
        # Airflow treats a text that ends in .sh as the name of a file.
        self.script = f"{script}\n" if isinstance(script, str) and "\n" in script else script
        self.command = f"{command} " if isinstance(command, str) else command
        self.script_path = script_path
        self.working_dir = working_dir
        self.job_name = job_name
        self.account = account
        self.partition = partition
        self.reservation = reservation
        self.constraint = constraint
        self.qos = qos
        # Native rendering would turn this into a number, which means seconds.
        minutes = isinstance(time_limit, str) and time_limit.strip().isdigit()
        self.time_limit = f"{str(time_limit).strip()}:00" if minutes else time_limit
        self.nodes = nodes
        self.tasks = tasks
        self.tasks_per_node = tasks_per_node
        self.cpus_per_task = cpus_per_task
        self.memory = memory
        self.gpus = gpus
        self.exclusive = exclusive
        self.array = array
        self.dependency = dependency
        self.after = after
        self.directives = directives
        self.environment = environment
        self.inputs = inputs
        self.outputs = outputs
        self.wait = wait
        self.log_output = log_output
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self.start_from_trigger = start_from_trigger
        self.prepare_template()
        self._system: BlockingSystem | None = None
        self._job_id: str | None = None
        self._job: Job | None = None
        self._killed = False
        self._gateway_has_pages = True

    def prepare_template(self) -> None:
        """Set the arguments of the start trigger. Airflow calls this before it serializes the task."""
        if self.start_from_trigger:
            fields = {name: getattr(self, name) for name in _FIELDS}
            kwargs = {
                "firecrest_conn_id": self.firecrest_conn_id,
                "push_outcome": self.do_xcom_push,
                "more_memory": self._policy.more_memory,
                "more_time": self._policy.more_time,
                "native": self._should_render_native(self.dag if self.has_dag() else None),
                "from_tasks": [name for name, value in fields.items() if isinstance(value, XComArg)],
                **{name: _as_templates(value) for name, value in fields.items()},
            }
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=f"{FirecRESTSubmitTrigger.__module__}.{FirecRESTSubmitTrigger.__name__}",
                next_method="execute_complete",
                trigger_kwargs=kwargs,
            )

    def execute(self, context: Context) -> dict[str, Any]:
        with short_failures():
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        self._job_id, self._job, self._killed = None, None, False
        attempts = Attempts.on_worker(context)
        with self._connected(context) as system:
            attempt, job_id = self._submit(system, attempts, context)
            if not self.wait:
                return outcome(Job(job_id=job_id, state=JobState.SUBMITTED, workdir=self._workdir(system)), system.name)
            if self.deferrable or self.start_from_trigger:
                if self._follows:
                    self._push(context, OUTPUT_STORED_AS, {"job_id": job_id, "position": None})
                self._wait_in_triggerer(system.name, job_id)
            return self._finish(system, attempts, attempt, job_id)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Resume the task after a deferral: the job has ended."""
        attempts = self._attempts(context)
        attempt = attempts.last()
        current = attempt.job_id if attempt is not None and attempt.ended is None else None
        if current is not None and current != event["job_id"]:
            # Databases that reuse the ids of deleted triggers, such as SQLite, may deliver the event of a deleted task
            # instance to its successor.
            self.log.info("Ignoring the end of job %s, of an earlier attempt", event["job_id"])
            with self.hook.get_conn(self.system) as system:
                self._wait_in_triggerer(system.name, current)
        self._job_id = event["job_id"]
        if "error" in event:
            raise to_airflow_error(unpacked(event["error"]), self._policy, self)
        with self._connected(context) as system:
            return self._finish(system, attempts, attempt, event["job_id"], event.get("output"))

    def _wait_in_triggerer(self, system: str, job_id: str) -> NoReturn:
        trigger = FirecRESTJobTrigger(
            self.firecrest_conn_id,
            system,
            job_id,
            self._follows,
            end_from_trigger=self._ends_in_triggerer() if self.end_from_trigger is None else self.end_from_trigger,
            push_outcome=self.do_xcom_push,
            array=self.array,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=self.execution_timeout)

    def _ends_in_triggerer(self) -> bool:
        """Whether the triggerer can do everything that remains at the end of the task."""
        needs_worker = (
            type(self) is not FirecRESTSubmitOperator
            or self.outlets
            or self.on_success_callback
            or self._post_execute_hook
            or self.multiple_outputs
            or XCom is not BaseXCom
            or get_listener_manager().has_listeners
        )
        return not needs_worker

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Cancel the job if the deferral timed out. Airflow ends such deferrals without notifying the trigger."""
        try:
            with short_failures():
                return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            attempt = self._attempts(context).last()
            self._job_id = attempt.job_id if attempt is not None else None  # for the link to the job page
            given_up = isinstance(error, TaskDeferralTimeout) or not _has_another_try(context)
            if given_up and attempt is not None and attempt.job_id is not None and attempt.ended is None:
                self._give_up(attempt.job_id)
            raise

    def on_kill(self) -> None:
        self._killed = True
        if self._job_id is not None:
            self._cancel(self._job_id)

    def get_openlineage_facets_on_start(self) -> Any:
        """Return facets with the files that the job will read and write."""
        return self._facets(None)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return facets with the files that the job has read and written, and its resource usage."""
        return self._facets(self._job)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return facets with the files of the failed job, and its resource usage."""
        return self._facets(self._job)

    def _facets(self, job: Job | None) -> Any:
        site = self.hook.site()
        return lineage.facets(
            gateway_url=site.url,
            system=single(self.system, "system") or site.system or "",
            working_dir=single(self.working_dir, "working_dir") or "",
            inputs=texts(self.inputs),
            outputs=texts(self.outputs),
            resources={name: getattr(self, name) for name in RESOURCES},
            job_id=self._job_id,
            job=job,
        )

    @property
    def _policy(self) -> FirecRESTRetryPolicy:
        policy = self.retry_policy
        return policy if isinstance(policy, FirecRESTRetryPolicy) else FirecRESTRetryPolicy()

    @property
    def _follows(self) -> bool:
        """Whether to log the job's output. Arrays have too many output files."""
        return bool(self.log_output and not self.array)

    def _attempts(self, context: Context) -> Attempts:
        """Return the attempts of this task, whether it started on a worker or in the triggerer."""
        on_worker = Attempts.on_worker(context)
        if self.start_from_trigger and on_worker.last() is None:
            return Attempts.without_worker(context["ti"])
        return on_worker

    def _submit(self, system: BlockingSystem, attempts: Attempts, context: Context) -> tuple[Attempt, str]:
        """Submit the job of this attempt, or find it. Returns the attempt and the job's id."""
        attempt = self._unfinished(system, attempts) or self._begin(attempts)
        if attempt.job_id is not None:
            self.log.info("Job %s on %s was submitted before; going on with it", attempt.job_id, system.name)
        else:
            ti: Any = context["ti"]
            after = after_jobs((task_id, ti.xcom_pull(task_ids=task_id)) for task_id in texts(self.after))
            spec = job_spec(self, self._workdir(system), attempt, after)
            attempt = attempts.submitted(attempt, system.submit(spec, key=attempt.key).job_id)
            self.log.info("Submitted job %s to %s", attempt.job_id, system.name)
        assert attempt.job_id is not None  # noqa: S101
        self._job_id = attempt.job_id
        if self._killed:  # during the submission
            self._cancel(attempt.job_id)
        self._push(context, "job_id", attempt.job_id)
        if page := page_of(self.hook, system, attempt.job_id):
            # Airflow evaluates the link only when the task is deferred or has ended.
            self._push(context, FirecRESTJobLink().xcom_key, page)
            self.log.info("Job page: %s", page)
        return attempt, attempt.job_id

    def _push(self, context: Context, key: str, value: Any) -> None:
        if (push := getattr(context["ti"], "xcom_push", None)) is not None:
            push(key=key, value=value)

    def _begin(self, attempts: Attempts) -> Attempt:
        last = attempts.last()
        again = last is not None and not attempts.was_cleared_since(last)
        return attempts.begin(last, *self._policy.factors(last if again else None))

    def _workdir(self, system: BlockingSystem) -> str:
        working_dir = single(self.working_dir, "working_dir")
        return system.resolve_path(working_dir) if working_dir else ""

    def _unfinished(self, system: BlockingSystem, attempts: Attempts) -> Attempt | None:
        """Return the last attempt if this try must resume it, otherwise None."""
        attempt = attempts.last()
        if attempt is None or attempt.ended is not None:
            return None
        if attempts.was_cleared_since(attempt):
            if attempt.job_id is not None:
                self._cancel(attempt.job_id)
            return None
        if attempt.job_id is not None:
            try:
                job = system.job(attempt.job_id)
            except JobNotFoundError:  # the job may not be visible yet; waiting for it decides
                return attempt
            if job.is_finished and not job.state.is_success:
                attempts.ended(attempt, job.state)
                return None
        return attempt

    def _finish(
        self,
        system: BlockingSystem,
        attempts: Attempts,
        attempt: Attempt | None,
        job_id: str,
        position: str | None = None,
    ) -> dict[str, Any]:
        """Wait for the job, log its output, and return its outcome for the XCom.

        Args:
            position: the position in the output up to which it is already in the log.
        """
        try:
            job = self._started(system, job_id)
            if self._follows:
                self._log_output(system, job, position)
            job = self._job = system.metadata(system.wait(job))
        except JobNotFoundError:
            if attempt is not None:
                attempts.ended(attempt, JobState.UNKNOWN)
            raise
        elements = system.array_tasks(job) if self.array else None
        if not job.state.is_success:
            if attempt is not None:
                attempts.ended(attempt, job.state)
            raise self._failure(system, job, elements)
        self.log.info("Job %s has completed", job.job_id)
        return outcome(job, system.name, elements)

    def _started(self, system: BlockingSystem, job_id: str) -> Job:
        """Wait until the job runs or has ended, and return it with the paths of its output."""
        job = None
        for event in system.watch(job_id):
            job = event.job
            self.log.info("%s", news(event))
            if not event.state.is_waiting and event.state not in (JobState.UNKNOWN, JobState.CONFIGURING):
                break
        assert job is not None  # noqa: S101
        return system.metadata(job)

    def _log_output(self, system: BlockingSystem, job: Job, position: str | None) -> None:
        """Write the job's output to the task log until the job has ended."""
        for line in system.output(job, position=position):
            self.log.info("%s", logged(line))

    def _failure(self, system: BlockingSystem, job: Job, elements: list[Job] | None) -> JobFailedError:
        """Log why the job, or the first failed task of an array, did not complete. Returns the error to raise."""
        failed = [each for each in elements or () if each.is_finished and not each.state.is_success]
        if len(failed) > 1:
            self.log.error("%d of %d elements did not complete, this one first:", len(failed), len(elements or ()))
        job = failed[0] if failed else job
        path = job.stderr or job.stdout
        in_log = self._follows and path == job.stdout
        self._explain(explanation(job, path, [] if in_log else last_lines(system, path, self.log)))
        return failure(job)

    def _explain(self, lines: list[str]) -> None:
        for line in lines:
            self.log.error("%s", line)

    def _cancel(self, job_id: str) -> None:
        self.log.info("Cancelling job %s", job_id)
        if self._system is not None:
            self._system.cancel(job_id)
        else:
            with self.hook.get_conn(self.system) as system:
                system.cancel(job_id)

    def _give_up(self, job_id: str) -> None:
        """Cancel the job after another error. A failure to cancel is logged, so that the other error is raised."""
        try:
            self._cancel(job_id)
        except CrestlineError as error:
            self.log.warning("Job %s could not be cancelled: %s", job_id, error)

    @contextmanager
    def _connected(self, context: Context) -> Iterator[BlockingSystem]:
        """Connect to the system, and make it available to `on_kill`, which runs in a signal handler.

        After an error in the last try, the job is cancelled, since no task would wait for it.
        """
        try:
            with self.hook.get_conn(self.system) as self._system:
                self._gateway_has_pages = has_pages(self._system)
                try:
                    yield self._system
                except TaskDeferred:
                    raise
                except Exception:
                    ended = self._job is not None and self._job.is_finished
                    if self._job_id is not None and not ended and not _has_another_try(context):
                        self._give_up(self._job_id)
                    raise
                finally:
                    self._system = None
        except CrestlineError as error:
            raise to_airflow_error(error, self._policy, self) from error.__cause__


def _as_templates(value: Any) -> Any:
    """Replace the results of other tasks in the value with templates, since trigger arguments must be serializable."""
    if isinstance(value, XComArg):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _as_templates(each) for name, each in value.items()}
    return [_as_templates(each) for each in value] if isinstance(value, list | tuple) else value


def _has_another_try(context: Context) -> bool:
    ti: Any = context["ti"]
    return bool(getattr(ti, "try_number", 1) <= getattr(ti, "max_tries", 0))
