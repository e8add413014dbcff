"""Triggers that wait for jobs without a worker, or that run whole tasks in the triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

import crestline.model
from crestline.client import JobEvent, System
from crestline.model import ConflictError, CrestlineError, Job, JobNotFoundError, JobSpec, JobState
from crestline_airflow.attempts import Attempt, Attempts, XComStore
from crestline_airflow.compat import HAS_ON_KILL
from crestline_airflow.failures import FirecRESTRetryPolicy
from crestline_airflow.links import FirecRESTJobLink, page_of
from crestline_airflow.live_output import LiveOutput
from crestline_airflow.rendered import ExactRendering, single, texts
from crestline_airflow.resources import after_jobs, job_spec
from crestline_airflow.shared import Shared, acquire, outlast, release
from crestline_airflow.xcom import outcome

_LOG = logging.getLogger(__name__)
_killing: set[asyncio.Task[None]] = set()
"""Strong references to the tasks that cancel jobs, since the event loop keeps only weak ones."""


def _note_kill(killing: asyncio.Task[None]) -> None:
    _killing.discard(killing)
    # Airflow may have stopped waiting for this
    if not killing.cancelled() and (error := killing.exception()) is not None:
        _LOG.warning("The job of a task that was ended may still run: %s", error)


class FirecRESTTrigger(BaseTrigger):
    """A trigger that is serialized from the attributes named like the arguments of its constructor."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return f"{type(self).__module__}.{type(self).__name__}", kwargs


class FirecRESTJobTrigger(FirecRESTTrigger):
    """Fires when a job has ended. Its event is a dictionary with the `job_id` and the `state`.

    Meanwhile, the job's output is written to the task log. The event's `output` is the position that it has reached. If
    the state of the job cannot be determined, the event contains an `error` instead of the state.

    All triggers of one connection in a triggerer share a job monitor and a request budget for output, so the load on
    the gateway does not depend on their number.

    Args:
        firecrest_conn_id: the Airflow connection.
        system: the system's name.
        job_id: the job to wait for.
        log_output: write the job's output to the task log.
        end_from_trigger: if the job completes, end the task here, without a worker.
        push_outcome: whether the return value of a task that ends here becomes an XCom.
        array: the operator's `array`. If set, the return value lists the array tasks.
    """

    def __init__(
        self,
        firecrest_conn_id: str,
        system: str,
        job_id: str,
        log_output: bool = True,
        end_from_trigger: bool = False,
        push_outcome: bool = True,
        array: str | None = None,
    ) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self.system = system
        self.job_id: str | None = job_id
        self.log_output = log_output
        self.end_from_trigger = end_from_trigger
        self.push_outcome = push_outcome
        self.array = array
        self._is_new = False
        self._is_killed = False

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            shared = await acquire(self.firecrest_conn_id, self.system)
            try:
                event = await self._run(shared)
            finally:
                await release(shared)
        except CrestlineError as error:
            event = TriggerEvent({"job_id": self.job_id, "error": packed(error)})
        except asyncio.CancelledError:
            if not HAS_ON_KILL and self.task_instance is not None:
                await self.on_kill()
            raise
        yield event

    async def _run(self, shared: Shared) -> TriggerEvent:
        assert self.job_id is not None  # noqa: S101
        job, output = await self._ended(shared, self.job_id)
        if self.end_from_trigger and job.state.is_success and await self._is_the_tasks_job():
            return await self._completed(shared, job, output)
        return _resuming(job, output)

    async def _is_the_tasks_job(self) -> bool:
        """Whether the task instance still waits for this job: SQLite reuses the ids of deleted triggers.

        False in `dag.test()`, which has no task instance to end.
        """
        if self.task_instance is None:
            return False
        stored = await sync_to_async(XComStore(self.task_instance).get)("job_id")
        return bool(stored == self.job_id)

    async def _completed(self, shared: Shared, job: Job, output: LiveOutput | None) -> TriggerEvent:
        """End the task: log the rest of the output and return the outcome of the job."""
        output = output or self._live_output(shared)
        async with shared.finishing:
            left = await outlast(self.firecrest_conn_id, lambda: self._finished(shared, job, output))
        self.log.info("Job %s has completed", job.job_id)
        return TaskSuccessEvent(xcoms={"return_value": left} if self.push_outcome else None)

    async def _finished(self, shared: Shared, job: Job, output: LiveOutput) -> dict[str, Any]:
        assert shared.system is not None  # noqa: S101
        try:
            job = await shared.system.metadata(job)
        except JobNotFoundError:  # accounting may not list a job yet that ended right away
            self.log.warning("It is not known where job %s has written", job.job_id)
        if self.log_output:
            await output.finish(job)
        elements = await shared.system.array_tasks(job) if self.array else None
        return outcome(job, shared.system.name, elements)

    async def _ended(self, shared: Shared, job_id: str) -> tuple[Job, LiveOutput | None]:
        """Wait for the end of the job. Returns it with the follower of its output, if there is one.

        Raises:
            JobNotFoundError: the scheduler does not know the job, or no longer.
        """
        assert shared.system is not None  # noqa: S101
        output: LiveOutput | None = None
        following: asyncio.Task[None] | None = None
        try:
            async with contextlib.aclosing(shared.system.watch(job_id)) as events:
                async for event in events:
                    job = event.job
                    self.log.info("%s", news(event))
                    runs = event.state is JobState.RUNNING
                    if runs and following is None and self.log_output and shared.budget.acquire_slot():
                        output = self._live_output(shared)
                        following = asyncio.create_task(output.follow(job))
        finally:
            if following is not None:
                shared.budget.release_slot()
                following.cancel()
                await asyncio.wait({following})  # awaiting the task itself would leave a reference cycle of tracebacks
                if not following.cancelled():
                    following.result()
        return job, output

    def _live_output(self, shared: Shared) -> LiveOutput:
        assert shared.system is not None  # noqa: S101
        return LiveOutput(shared.system, shared.budget, self.task_instance, self.log, is_new=self._is_new)

    async def on_kill(self) -> None:
        """Cancel the job, but only if the user has ended the task.

        Airflow 3.3 also calls this in a slow triggerer whose triggers were reassigned to another one. In this case the
        task is still deferred, and the job must continue. Airflow also interrupts this method every second. Before 3.3,
        `run` calls this method on any cancellation.
        """
        killing = asyncio.create_task(self._kill())
        _killing.add(killing)
        killing.add_done_callback(_note_kill)
        await asyncio.shield(killing)

    async def _kill(self) -> None:
        if await self._is_deferred():
            return
        self._is_killed = True
        shared = await acquire(self.firecrest_conn_id, self.system)
        try:
            await self._cancel(shared)
        finally:
            await release(shared)

    async def _cancel(self, shared: Shared) -> None:
        system, job_id = shared.system, self.job_id
        if job_id is not None and system is not None:
            self.log.info("Cancelling job %s", job_id)
            with contextlib.suppress(JobNotFoundError):
                await outlast(self.firecrest_conn_id, lambda: system.cancel(job_id))

    async def _is_deferred(self) -> bool:
        """Whether the task is deferred. Airflow looks it up by name, so it may be another task instance."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti: Any = self.task_instance
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        return "deferred" in states.get(ti.run_id, {}).values()


class FirecRESTSubmitTrigger(ExactRendering, FirecRESTJobTrigger):
    """Runs a whole FirecRESTSubmitOperator in the triggerer, and ends the task if the job completes.

    If the job does not complete, a worker takes over and reports it, since retry policies and callbacks run there. Each
    try submits its job once: if a triggerer is lost, the next one finds the job by the key of the try. If a task was
    cleared while no triggerer was running, the job of its previous try is cancelled first.

    Args:
        firecrest_conn_id: the Airflow connection.
        push_outcome: whether the task's return value becomes an XCom.
        more_memory, more_time: see `FirecRESTRetryPolicy`.
        native: whether templates are rendered to Python objects.
        from_tasks: names of the fields that consist only of another task's return value, whose type is preserved.
        task: the fields of the operator, by name.
    """

    def __init__(
        self,
        firecrest_conn_id: str,
        push_outcome: bool = True,
        more_memory: float | None = None,
        more_time: float | None = None,
        native: bool = False,
        from_tasks: Sequence[str] = (),
        **task: Any,
    ) -> None:
        super().__init__(
            firecrest_conn_id, task["system"], job_id="", log_output=task["log_output"], push_outcome=push_outcome
        )
        self.job_id = None
        self.more_memory = more_memory
        self.more_time = more_time
        self.render_template_as_native_obj = native  # Airflow reads this attribute when it renders templates
        self.from_tasks = tuple(from_tasks)
        self._fields = tuple(task)
        for name, value in task.items():  # Airflow renders the attributes that have the names of the operator's fields
            setattr(self, name, value)
        self._submission: asyncio.Task[Attempt] | None = None
        self._attempt: Attempt | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {
            "firecrest_conn_id": self.firecrest_conn_id,
            "push_outcome": self.push_outcome,
            "more_memory": self.more_memory,
            "more_time": self.more_time,
            "native": self.render_template_as_native_obj,
            "from_tasks": list(self.from_tasks),
        }
        task = {name: getattr(self, name) for name in self._fields}
        return f"{__name__}.{type(self).__name__}", kwargs | task

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render templates like an operator on a worker."""
        env = jinja_env or self.get_template_env()
        values = {name: env.compile_expression(getattr(self, name).strip("{} "))(context) for name in self.from_tasks}
        super().render_template_fields(context, env)
        for name, value in values.items():
            setattr(self, name, value)

    async def _run(self, shared: Shared) -> TriggerEvent:
        assert shared.system is not None  # noqa: S101
        # A separate task, so that a kill does not lose the response to a submission.
        self._submission = asyncio.create_task(self._submit())
        # Mark errors as retrieved, as the waiting task may be cancelled.
        self._submission.add_done_callback(lambda done: done.cancelled() or done.exception())
        attempt = await asyncio.shield(self._submission)
        assert attempt.job_id is not None  # noqa: S101
        job, output = await self._ended(shared, attempt.job_id)
        if not job.state.is_success:
            return _resuming(job, output)
        return await self._completed(shared, job, output)

    async def _submit(self) -> Attempt:
        # Keeps the connection open if a kill releases the other reference.
        shared = await acquire(self.firecrest_conn_id, self.system)
        try:
            return await outlast(self.firecrest_conn_id, lambda: self._submitted(shared))
        finally:
            await release(shared)

    async def _submitted(self, shared: Shared) -> Attempt:
        system = shared.system
        assert system is not None  # noqa: S101
        attempts = Attempts.without_worker(self.task_instance)
        attempt = self._attempt = self._attempt or await self._find_attempt(system, attempts)
        if attempt.job_id is not None:
            self.log.info("Job %s on %s was submitted before; going on with it", attempt.job_id, system.name)
        else:
            spec = await self._spec(system, attempt)
            confirm = functools.partial(self._confirm, attempts, attempt)
            job = await system.connection.submission.submit(spec, attempt.key, confirm=confirm)
            self.job_id = job.job_id
            self.log.info("Submitted job %s to %s", job.job_id, system.name)
            if not await sync_to_async(attempts.is_last)(attempt):  # `_cancel` only knows this job
                raise _task_is_over()
            attempt = await sync_to_async(attempts.submitted)(attempt, job.job_id)
            self._is_new = True
        self.job_id = attempt.job_id
        page = page_of(shared.hook, system, str(attempt.job_id))
        if page:
            self.log.info("Job page: %s", page)
        for key, value in (("job_id", attempt.job_id), (FirecRESTJobLink().xcom_key, page)):
            await sync_to_async(XComStore(self.task_instance).set)(key, value)
        return attempt

    async def _spec(self, system: System, attempt: Attempt) -> JobSpec:
        workdir = single(getattr(self, "working_dir", None), "working_dir")
        workdir = await system.resolve_path(workdir) if workdir else ""
        return job_spec(self, workdir, attempt, await sync_to_async(self._after)())

    async def _unrecorded(self, system: System, attempt: Attempt) -> str | None:
        """Return the job id of an earlier try whose triggerer was killed before recording it, or None."""

        async def refuse() -> None:
            raise _task_is_over()

        spec, submission = await self._spec(system, attempt), system.connection.submission
        if not await submission.was_submitted(spec, attempt.key):
            return None
        try:
            return (await submission.submit(spec, attempt.key, confirm=refuse)).job_id
        except ConflictError as error:
            self.log.warning("The job of the try before was not found: %s", error)
            return None

    async def _confirm(self, attempts: Attempts, attempt: Attempt) -> None:
        """Refuse to submit the job of a try that was ended, or that a later try has replaced.

        Raises:
            ConflictError: this try is no longer the current one.
        """
        if self._is_killed or not await sync_to_async(attempts.is_last)(attempt):
            raise _task_is_over()

    async def _find_attempt(self, system: System, attempts: Attempts) -> Attempt:
        """Return the attempt of this try: a new one, or the one recorded by another triggerer.

        Raises:
            ConflictError: this try is no longer the current one.
        """
        last = await sync_to_async(attempts.last)()
        if last is not None and not attempts.was_cleared_since(last):
            return last
        if self._is_killed or (last is not None and attempts.is_later(last)):
            raise _task_is_over()
        if last is not None and last.ended is None:
            job_id = last.job_id or await self._unrecorded(system, last)
            if job_id is not None:
                self.log.info("Cancelling job %s of the try before", job_id)
                with contextlib.suppress(JobNotFoundError):
                    await system.cancel(job_id)
            now = await sync_to_async(attempts.last)()  # another triggerer may have begun this try in the meantime
            if now is not None and not attempts.was_cleared_since(now):
                return now
            await self._confirm(attempts, last)
        policy = FirecRESTRetryPolicy(more_memory=self.more_memory, more_time=self.more_time)
        return await sync_to_async(attempts.begin)(last, *policy.factors(last))

    def _after(self) -> str | None:
        ti: Any = self.task_instance
        tasks = texts(getattr(self, "after", None))
        return after_jobs((task_id, ti.xcom_pull(task_ids=task_id)) for task_id in tasks)

    async def _is_deferred(self) -> bool:
        """Whether the task is deferred. False for a deleted task instance, whose XComs are deleted with it."""
        if not await super()._is_deferred():
            return False
        attempts = Attempts.without_worker(self.task_instance)
        last = await sync_to_async(attempts.last)()
        if last is not None and attempts.is_of_this_task_instance(last):
            return True
        if self._attempt is None:  # not submitted yet: if the task is still deferred, another triggerer submits the job
            self._is_killed = True
            return True
        return False

    async def _cancel(self, shared: Shared) -> None:
        if self._submission is not None:
            with contextlib.suppress(CrestlineError):
                await self._submission
        if self.job_id is None:  # not submitted by this triggerer, but perhaps by its predecessor
            attempts = Attempts.without_worker(self.task_instance)
            last = await sync_to_async(attempts.last)()
            if last is not None and last.ended is None and attempts.is_of_this_task_instance(last):
                self.job_id = last.job_id
        await super()._cancel(shared)


def _task_is_over() -> ConflictError:
    return ConflictError("The task was ended, or has another try by now.", hint="Only its present try submits a job.")


def news(event: JobEvent) -> str:
    """Describe a job event in one line for the log."""
    return f"Job {event.job.job_id} is {event.state}" + (f" ({event.reason})" if event.reason else "")


def packed(error: CrestlineError) -> dict[str, str]:
    """Convert an error to the payload of an event."""
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def unpacked(error: dict[str, str]) -> CrestlineError:
    """Rebuild an error from the payload created by `packed`."""
    kind = getattr(crestline.model, error["type"], CrestlineError)
    return kind(error["message"], hint=error["hint"])  # type: ignore[no-any-return]


def _resuming(job: Job, output: LiveOutput | None) -> TriggerEvent:
    return TriggerEvent(
        {"job_id": job.job_id, "state": str(job.state), "output": output.position if output is not None else None}
    )
