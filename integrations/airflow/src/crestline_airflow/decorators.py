"""`@task.firecrest`: a Python function of a DAG that runs as a job."""

from __future__ import annotations

import hashlib
import inspect
import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from crestline.client import BlockingSystem
from crestline.model import FileMissingError, InvalidRequestError, JobFailedError
from crestline_airflow.attempts import Attempts
from crestline_airflow.compat import KNOWN_CONTEXT_KEYS, handle_output
from crestline_airflow.failures import short_failures, to_airflow_error
from crestline_airflow.functions import Call, RemoteFunctionError, pack, value_of
from crestline_airflow.functions.packing import Serializer, source_of
from crestline_airflow.operators.submit import FirecRESTSubmitOperator
from crestline_airflow.rendered import required, texts

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["FirecRESTDecoratedOperator", "firecrest_task"]

SIZE_LIMIT = 10 * 1024 * 1024
"""Maximum size in bytes of arguments and value, which pass through the memory of a worker, and the value through
XCom."""

_NOT_FOR_FUNCTIONS = ("script", "command", "script_path", "array", "wait", "start_from_trigger")

_PLAIN_CONTEXT = frozenset(
    "ds ds_nodash ts ts_nodash ts_nodash_with_tz run_id logical_date data_interval_start data_interval_end params "
    "map_index_template partition_key partition_date try_number task_instance_key_str expanded_ti_count "
    "task_reschedule_count test_mode prev_data_interval_start_success prev_data_interval_end_success "
    "prev_start_date_success prev_end_date_success templates_dict".split()
)
"""Values of a task's context that are plain enough to be sent."""


class FirecRESTDecoratedOperator(DecoratedOperator, FirecRESTSubmitOperator):
    """Runs a function as a job with its arguments, and returns its value.

    Only the function's source is sent, so it must import and define everything that it needs. On the system it needs
    Python
    3.6 or newer with these modules. The nodes need no network. The task log shows the function's output, and the
    traceback of an exception.

    Example::

        @task.firecrest(python="apptainer exec torch.sif python", nodes=1, gpus=4)
        def train(epochs):
            import torch
            return torch.cuda.device_count() * epochs

    A parameter named after a value of Airflow's context (`ds`, `logical_date`, `params`, `run_id`, ...) receives it.

    Args:
        python: command line of the interpreter on the system, for example `apptainer exec torch.sif python`.
        prologue: shell lines before it, for example `module load cray-python`.
        serializer: format of arguments and value; `json` if values of the system's Python must not be unpickled here.
        size_limit: maximum size in bytes of the arguments, and of the value.
        working_dir: working directory of the function, as in FirecRESTSubmitOperator, created if necessary. The call is
            in
            `.crestline/functions/` below it until it has returned.
        kwargs: all other arguments of FirecRESTSubmitOperator except scripts and arrays; for many calls, `expand` the
            task.

    Raises:
        RemoteFunctionError: the function raised an exception.
        InvalidRequestError: the function, its arguments or its value cannot be sent, or the system's Python cannot load
            them.
        JobFailedError: the job failed for another reason.
    """

    custom_operator_name = "@task.firecrest"
    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        "python",
        "prologue",
        *(field for field in FirecRESTSubmitOperator.template_fields if field not in _NOT_FOR_FUNCTIONS),
    )
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        "prologue": "bash",
        "environment": "json",
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python: str = "python3",
        prologue: str = "",
        serializer: Serializer = "pickle",
        size_limit: int = SIZE_LIMIT,
        **kwargs: Any,
    ) -> None:
        if refused := [name for name in _NOT_FOR_FUNCTIONS if name in kwargs]:
            raise TypeError(f"@task.firecrest takes no {', '.join(refused)}; for many calls use expand().")
        self.python = python
        self.prologue = prologue
        self.serializer = serializer
        self.size_limit = size_limit
        self._explanation: list[str] = []
        source_of(python_callable)  # reports a problem already in the DAG's file
        super().__init__(python_callable=python_callable, **kwargs)
        far = [name for name in self._context_parameters() if name not in _PLAIN_CONTEXT]
        if far and not kwargs.get("_airflow_mapped_validation_only"):
            raise TypeError(
                f"{python_callable.__name__}() asks for {', '.join(far)}, which cannot travel to the system; "
                "pass what it needs of it as an argument."
            )

    def execute(self, context: Context) -> Any:
        with short_failures(), self.hook.get_conn(self.system) as system:
            self.script = self._send(system, context)
            return self._returned(context, lambda: FirecRESTSubmitOperator.execute(self, context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral with any method. Its return value is the job, from which the function's value is
        read."""
        resume = super().resume_execution
        return self._returned(context, lambda: resume(next_method, next_kwargs, context))

    def _send(self, system: BlockingSystem, context: Context) -> str:
        """Write the call to the system and return the script that runs it, the same in every try."""
        args, kwargs = self._arguments(context)
        call = Call(
            function=self.python_callable,
            args=args,
            kwargs=kwargs,
            serializer=self.serializer,
            limit=self.size_limit,
        )
        content = pack(call)
        directory = self._directory(system, context)
        system.mkdir(directory, parents=True)
        system.chmod(directory, "700")
        place = posixpath.join(directory, "call.py")
        system.write_bytes(place, content)
        python = required(self.python, "python")
        return "\n".join(
            [
                "#!/bin/bash",
                *texts(self.prologue),
                "crestline_id=${SLURM_JOB_ID:-${PBS_JOBID-}}",
                f'exec {python} -u {shlex.quote(place)} {shlex.quote(directory)}/outcome-"${{crestline_id%%.*}}"',
                "",
            ]
        )

    def _returned(self, context: Context, run: Callable[[], dict[str, Any]]) -> Any:
        """Return the value of the function whose job `run` waits for."""
        failed: JobFailedError | None = None
        self._explanation = []
        try:
            job_id = run()["job_id"]
        except JobFailedError as error:
            failed, job_id = error, error.job.job_id
        name = self.python_callable.__name__
        with self.hook.get_conn(self.system) as system:
            directory = self._directory(system, context)
            try:
                content = system.read_bytes(posixpath.join(directory, f"outcome-{job_id}"))
            except FileMissingError:
                if failed is not None:
                    super()._explain(self._explanation)
                    raise failed.with_traceback(None) from None
                raise InvalidRequestError(
                    f"Job {job_id} has completed, but {name}() has left no outcome in {directory}.",
                    hint="The function must return; it may neither end Python itself nor remove that directory.",
                ) from None
            try:
                value = value_of(content, name, self.serializer, self.size_limit, failed.job if failed else None)
            except (JobFailedError, InvalidRequestError) as error:
                self.log.info("The call is still there: %s %s OUTCOME repeats it", self.python, f"{directory}/call.py")
                if isinstance(error, RemoteFunctionError):
                    super()._explain(str(error).splitlines())
                    error = error.shortened()
                raise to_airflow_error(error, self._policy, self) from None
            self._forget(system, directory, context)
        return handle_output(self, value)

    def _explain(self, lines: list[str]) -> None:
        """Keep the explanation of the job's end, because the function's own error explains more."""
        self._explanation = lines

    def _forget(self, system: BlockingSystem, directory: str, context: Context) -> None:
        """Remove the call. A later try could not resume its job."""
        attempts = Attempts.on_worker(context)
        if (attempt := attempts.last()) is not None:
            attempts.ended(attempt, "completed")
        system.remove(directory, force=True)

    def _directory(self, system: BlockingSystem, context: Context) -> str:
        """Return the directory of the call, the same in every try."""
        ti: Any = context["ti"]
        names = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))
        digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:20]
        workdir = self._workdir(system) or system.default_workdir()
        return posixpath.join(workdir, ".crestline", "functions", f"{ti.task_id[:60]}-{digest}")

    def _arguments(self, context: Context) -> tuple[list[Any], dict[str, Any]]:
        values: Mapping[str, Any] = context  # type: ignore[assignment]
        kwargs = {**self.op_kwargs, **{name: values.get(name) for name in self._context_parameters()}}
        return [_plain(arg) for arg in self.op_args], {name: _plain(value) for name, value in kwargs.items()}

    def _context_parameters(self) -> list[str]:
        """Return the parameters that are named after a value of the context and have no other value."""
        signature = inspect.signature(self.python_callable)
        given = signature.bind_partial(*self.op_args, **self.op_kwargs).arguments
        return [name for name in signature.parameters if name in KNOWN_CONTEXT_KEYS and name not in given]


def _plain(value: Any) -> Any:
    """Convert a value to one without classes of Airflow: dates of Python, lists for lazy sequences, dictionaries for
    params."""
    if isinstance(value, datetime) and type(value) is not datetime:
        return datetime.fromtimestamp(value.timestamp(), UTC)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_plain(each) for each in value)
    if type(value) is dict:
        return {key: _plain(each) for key, each in value.items()}
    if type(value).__module__.partition(".")[0] == "airflow":
        if isinstance(value, Mapping):
            return {key: _plain(each) for key, each in value.items()}
        if isinstance(value, Sequence):
            return [_plain(each) for each in value]
    return value


def firecrest_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """The decorator `@task.firecrest`. Its arguments are those of FirecRESTDecoratedOperator."""
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=FirecRESTDecoratedOperator,
        **kwargs,
    )
