"""Options that describe a job, shared by `submit` and `run` and named as in sbatch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from crestline.cli.errors import UsageError

_PANEL = "Resources"


def _option(kind: Any, *names: str, **described: Any) -> Any:
    return Annotated[kind, typer.Option(*names, rich_help_panel=_PANEL, **described)]


# Fields of JobSpec and their options.
_OPTIONS: Mapping[str, Any] = {
    "name": _option(str | None, "--name", "--job-name", "-J", help="Name of the job."),
    "account": _option(str | None, "--account", "-A", help="Account to charge."),
    "partition": _option(str | None, "--partition", "-p", help="Partition to run in."),
    "reservation": _option(str | None, "--reservation", help="Reservation to run in."),
    "time_limit": _option(str | None, "--time", "-t", metavar="[D-]HH:MM:SS", help="Time limit."),
    "nodes": _option(int | None, "--nodes", "-N", min=1, help="Number of nodes."),
    "tasks": _option(int | None, "--ntasks", "-n", min=1, help="Number of tasks."),
    "tasks_per_node": _option(int | None, "--ntasks-per-node", min=1, help="Tasks on each node."),
    "cpus_per_task": _option(int | None, "--cpus-per-task", "-c", min=1, help="CPUs for each task."),
    "memory": _option(str | None, "--mem", metavar="SIZE", help="Memory per node, with unit: 4G."),
    "gpus": _option(str | None, "--gpus", "-G", help="GPUs of the job: [TYPE:]NUMBER."),
    "constraint": _option(str | None, "--constraint", "-C", help="Features that the nodes must have."),
    "qos": _option(str | None, "--qos", "-q", help="Quality of service."),
    "array": _option(str | None, "--array", "-a", metavar="INDEXES", help="A job array: 0-9%2."),
    "dependency": _option(str | None, "--dependency", "-d", metavar="LIST", help="Jobs to wait for: afterok:123."),
    "exclusive": _option(bool, "--exclusive", help="Do not share the nodes with other jobs."),
    "workdir": _option(str, "--workdir", "--chdir", "-D", metavar="PATH", help="Working directory on the system."),
    "environment": _option(list[str], "--env", metavar="NAME=VALUE", help="Environment variable; repeatable."),
    "stdin": _option(str | None, "--stdin", "--input", "-i", metavar="PATH", help="Standard input, on the system."),
    "stdout": _option(str | None, "--stdout", "--output", "-o", metavar="PATH", help="File for standard output."),
    "stderr": _option(str | None, "--stderr", "--error", "-e", metavar="PATH", help="File for standard error."),
    "directives": _option(list[str], "--sbatch", metavar="OPTION", help="Another sbatch option; repeatable."),
}
_EMPTY: Mapping[str, Any] = {"exclusive": False, "workdir": "", "environment": [], "directives": []}


def resource_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options above to `command`, which receives their values as `resources`, keyed by field of `JobSpec`."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "resources"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=_EMPTY.get(name), annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def with_resources(*arguments: Any, **options: Any) -> None:
        given = {name: options.pop(name) for name in _OPTIONS}
        given["environment"] = _environment(given["environment"])
        given["directives"] = tuple(given["directives"])
        command(*arguments, resources=given, **options)

    del with_resources.__wrapped__
    parameters = [*own, *shared]
    with_resources.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_resources.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_resources


def _environment(assignments: list[str]) -> dict[str, str]:
    environment = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not name or not separator:
            raise UsageError(f"--env {assignment!r} is not NAME=VALUE.")
        environment[name] = value
    return environment
