"""The resources of a task, and its job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from crestline.model import InvalidRequestError, JobSpec
from crestline.model.memory import parse_memory
from crestline.model.time_limits import seconds_of
from crestline_airflow.attempts import Attempt
from crestline_airflow.rendered import count, joined, single, texts, variables

RESOURCES = (
    "account",
    "partition",
    "reservation",
    "constraint",
    "qos",
    "time_limit",
    "nodes",
    "tasks",
    "tasks_per_node",
    "cpus_per_task",
    "memory",
    "gpus",
    "exclusive",
    "array",
    "dependency",
    "directives",
    "environment",
)
"""Fields of a JobSpec that are arguments of the operator with the same name."""

JOB_FIELDS = ("script", "command", "script_path", "working_dir", "job_name", *RESOURCES)
"""Arguments for the script, the working directory and the environment."""

_TEXTS = ("account", "partition", "reservation", "constraint", "qos", "memory", "array", "dependency")
"""Arguments that are one string, in which a list is separated by commas."""

_COUNTS = ("time_limit", "nodes", "tasks", "tasks_per_node", "cpus_per_task", "gpus")


def job_spec(task: Any, workdir: str, attempt: Attempt | None = None, after: str | None = None) -> JobSpec:
    """Return the job of a task.

    Args:
        task: has `script`, `command`, `script_path`, `job_name` and all of `RESOURCES` as attributes.
        workdir: absolute path, or empty.
        attempt: may request more than the task.
        after: a dependency in addition to the task's own.

    Raises:
        InvalidRequestError: a value is invalid, or the task does not have exactly one script.
    """
    values = {name: getattr(task, name) for name in RESOURCES}
    values |= {name: (joined(values[name]) or "").strip() for name in _TEXTS}
    values |= {name: count(values[name]) for name in _COUNTS}
    values |= {"script": _script(task), "script_path": single(task.script_path, "script_path"), "workdir": workdir}
    values["name"] = joined(task.job_name)
    values["directives"] = texts(task.directives)
    values["dependency"] = joined([task.dependency, after])
    values = {name: value for name, value in values.items() if value not in (None, "", [])}
    if attempt is not None and attempt.memory_factor != 1.0 and "memory" in values:
        values["memory"] = more_memory(str(values["memory"]), attempt.memory_factor)
    if attempt is not None and attempt.time_factor != 1.0 and "time_limit" in values:
        limit = seconds_of(values["time_limit"])
        values["time_limit"] = math.ceil(limit * attempt.time_factor) if limit else "UNLIMITED"
    if isinstance(values.get("environment"), Mapping):
        values["environment"] = variables(values["environment"])
    try:
        return msgspec.convert(values, JobSpec, strict=False)  # templates produce strings
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"The task asks for what no job can have: {error}.", hint="Correct that.") from None


def _script(task: Any) -> str | None:
    given = [name for name in ("script", "command", "script_path") if (joined(getattr(task, name)) or "").strip()]
    if len(given) != 1:
        raise InvalidRequestError(
            f"The task has {' and '.join(given) if given else 'no script'}.",
            hint="Give exactly one of script, command and script_path.",
        )
    if task.command:
        return "\n".join(["#!/bin/bash", "set -e", *texts(task.command), ""])
    return joined(task.script, "\n")


def after_jobs(jobs: Iterable[tuple[str, Any]]) -> str | None:
    """Return the dependency on the jobs of other tasks.

    Args:
        jobs: task ids, and the return values of these tasks. A completed job is not a condition.

    Raises:
        InvalidRequestError: a task has no job.
    """
    ids = []
    for task_id, left in jobs:
        if not isinstance(left, Mapping) or "job_id" not in left:
            raise InvalidRequestError(
                f"The task {task_id!r} has left no job to wait for.",
                hint="`after` names FirecRESTSubmitOperators upstream of this task, with wait=False.",
            )
        if left.get("state") != "completed":
            ids.append(str(left["job_id"]))
    return "afterok:" + ":".join(ids) if ids else None


def more_memory(memory: str, factor: float) -> str:
    """Multiply memory in Slurm's format.

    Raises:
        InvalidRequestError: invalid format.
    """
    return f"{math.ceil(parse_memory(memory.strip()) * factor)}M"
