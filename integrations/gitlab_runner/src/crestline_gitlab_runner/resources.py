"""The resources of a CI job: typed `CRESTLINE_*`, `SLURM_*` named after sbatch's options, or `SCHEDULER_PARAMETERS`.

If several set the same resource, the first of these takes precedence. Unset ones come from the configuration.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from crestline.model import JobSpec
from crestline.model.time_limits import format_duration
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.settings import Defaults
from crestline_gitlab_runner.time_limits import TimeLimit, parse_limit

_COUNTS = frozenset({"nodes", "tasks", "tasks_per_node", "cpus_per_task"})

_TYPED = {
    "CRESTLINE_ACCOUNT": "account",
    "CRESTLINE_PARTITION": "partition",
    "CRESTLINE_RESERVATION": "reservation",
    "CRESTLINE_CONSTRAINT": "constraint",
    "CRESTLINE_QOS": "qos",
    "CRESTLINE_TIME": "time",
    "CRESTLINE_NODES": "nodes",
    "CRESTLINE_TASKS": "tasks",
    "CRESTLINE_TASKS_PER_NODE": "tasks_per_node",
    "CRESTLINE_CPUS_PER_TASK": "cpus_per_task",
    "CRESTLINE_MEMORY": "memory",
    "CRESTLINE_GPUS": "gpus",
}
_SLURM = {
    "SLURM_ACCOUNT": "account",
    "SLURM_PARTITION": "partition",
    "SLURM_RESERVATION": "reservation",
    "SLURM_CONSTRAINT": "constraint",
    "SLURM_QOS": "qos",
    "SLURM_TIMELIMIT": "time",
    "SLURM_JOB_NUM_NODES": "nodes",
    "SLURM_NNODES": "nodes",
    "SLURM_NTASKS": "tasks",
    "SLURM_NTASKS_PER_NODE": "tasks_per_node",
    "SLURM_CPUS_PER_TASK": "cpus_per_task",
    "SLURM_MEM_PER_NODE": "memory",
    "SLURM_GPUS": "gpus",
}
_SLURM_DIRECTIVES = {
    "SLURM_GPUS_PER_NODE": "gpus-per-node",
    "SLURM_GPUS_PER_TASK": "gpus-per-task",
    "SLURM_MEM_PER_CPU": "mem-per-cpu",
    "SLURM_MEM_PER_GPU": "mem-per-gpu",
    "SLURM_HINT": "hint",
    "SLURM_DISTRIBUTION": "distribution",
    "SLURM_NETWORK": "network",
    "SLURM_EXCLUSIVE": "exclusive",
    "SLURM_THREADS_PER_CORE": "threads-per-core",
}
_OPTIONS = {
    "account": "account",
    "partition": "partition",
    "reservation": "reservation",
    "constraint": "constraint",
    "qos": "qos",
    "time": "time",
    "nodes": "nodes",
    "ntasks": "tasks",
    "ntasks-per-node": "tasks_per_node",
    "cpus-per-task": "cpus_per_task",
    "mem": "memory",
    "gpus": "gpus",
}
_SHORT = {
    "A": "account", "p": "partition", "C": "constraint", "q": "qos", "t": "time", "N": "nodes",
    "n": "ntasks", "c": "cpus-per-task", "G": "gpus",
}  # fmt: skip
_IMPLY_NODES = frozenset({"tasks", "tasks_per_node", "cpus_per_task", "memory", "gpus"})
"""Options with which the scheduler could choose any number of nodes."""
_FREE = frozenset(_SLURM_DIRECTIVES.values())
_VALUE = re.compile(r"[A-Za-z0-9_.,:=+*@%&|()\[\]/-]+")


def ask(defaults: Defaults, variables: Mapping[str, str], ci_timeout: int) -> tuple[JobSpec, list[str]]:
    """Return the resources of a job, checked against the site's limits.

    Args:
        defaults: the configured defaults and limits.
        variables: the job's variables, which a user has chosen.
        ci_timeout: seconds that GitLab gives the job; 0: unknown.

    Returns:
        a `JobSpec` without a script, and messages for the log.

    Raises:
        BuildFailureError: a value is invalid; contains the correct format.
    """
    found: dict[str, tuple[str, str]] = {}  # field -> (its text, its source)
    directives: dict[str, str] = {}
    for table in (_TYPED, _SLURM):
        for variable, field in table.items():
            if value := variables.get(variable, "").strip():
                found.setdefault(field, (value, variable))
    for variable, option in _SLURM_DIRECTIVES.items():
        if value := variables.get(variable, "").strip():
            directives[option] = f"--{option}={_checked(value, variable)}"
    for option, value in _parameters(variables.get("SCHEDULER_PARAMETERS", "")):
        if option in _OPTIONS:
            found.setdefault(_OPTIONS[option], (value, "SCHEDULER_PARAMETERS"))
        elif option in _FREE:
            directive = f"--{option}={_checked(value, 'SCHEDULER_PARAMETERS')}" if value else f"--{option}"
            directives.setdefault(option, directive)
        else:
            raise BuildFailureError(
                f"SCHEDULER_PARAMETERS: the option --{option} is not supported.",
                hint=f"Supported: {', '.join(sorted(f'--{name}' for name in {*_OPTIONS, *_FREE}))}.",
            )
    for field in ("account", "partition", "reservation", "constraint", "qos", "time", "nodes"):
        default = getattr(defaults, field)
        if default is not None:
            found.setdefault(field, (str(default), "the runner's configuration"))

    remarks: list[str] = []
    values: dict[str, str | int] = {}
    limits = _Limits(defaults.allowed)
    for field, (text, who) in found.items():
        if field == "time":
            longest = limits.max_seconds or ci_timeout or None
            limit = parse_limit(text, who, longest=longest)
            if limit.remark:
                remarks.append(limit.remark)
            values["time_limit"] = limit.text
            limits.check_time(limit, who)
            if ci_timeout and limit.seconds > ci_timeout:
                remarks.append(
                    f"GitLab ends this job after {format_duration(ci_timeout)}, queueing included; its time limit of "
                    f"{format_duration(limit.seconds)} will not be reached. Raise `timeout:` in .gitlab-ci.yml."
                )
        elif field in _COUNTS:
            if not re.fullmatch(r"[1-9]\d{0,6}", text):
                raise BuildFailureError(
                    f"{who}: {text!r} is not a number of {field.replace('_', ' ')}.", hint="Write 2."
                )
            values[field] = int(text)
        else:
            values[field] = _checked(text, who)
        limits.check(field, text, who)
    limits.check_implied(values)
    bound = limits.most("nodes")
    if bound is not None and "nodes" not in values and (values.keys() & _IMPLY_NODES or directives):
        directives["nodes"] = f"--nodes=1-{bound}"
    if limits.max_seconds is not None:
        values.setdefault("time_limit", format_duration(limits.max_seconds))
    return JobSpec(**values, directives=(*defaults.directives, *directives.values())), remarks  # type: ignore[arg-type]


def _checked(value: str, who: str) -> str:
    if not _VALUE.fullmatch(value):
        raise BuildFailureError(f"{who}: {value!r} cannot be an option's value.", hint="No spaces and no quotes in it.")
    return value


def _parameters(text: str) -> list[tuple[str, str]]:
    """Parse sbatch options of a command line."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BuildFailureError(f"SCHEDULER_PARAMETERS: {error}.", hint="Check its quotes.") from None
    options = []
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name not in ("exclusive",):
                value = next(rest, "")
        elif word.startswith("-") and word[1:2] in _SHORT:
            name = _SHORT[word[1]]
            value = word[2:] or next(rest, "")
        else:
            raise BuildFailureError(
                f"SCHEDULER_PARAMETERS: {word!r} is not understood.",
                hint="Write it as sbatch options: --nodes=2 -t 10.",
            )
        options.append((name, value))
    return options


class _Limits:
    """`allowed` of the configuration."""

    def __init__(self, rules: list[str]) -> None:
        self.max_seconds: int | None = None
        self._most: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        for rule in rules:
            name, most, value = rule.partition("<=")
            if most and name == "time":
                self.max_seconds = parse_limit(value, "allowed", longest=None).seconds
            elif most and name in _COUNTS and value.isdigit():
                self._most[name] = int(value)
            elif not most and ":" in rule:
                name, _, value = rule.partition(":")
                self._names[name] = value.split(",")
            else:
                from crestline.model import ConfigError

                raise ConfigError(
                    f"allowed: {rule!r} is not a rule.", hint="Write partition:a,b or nodes<=8 or time<=04:00:00."
                )

    def most(self, field: str) -> int | None:
        """Return the largest allowed number of a resource."""
        return self._most.get(field)

    def check_implied(self, values: Mapping[str, str | int]) -> None:
        """Check the third of nodes, tasks and tasks per node, which the other two imply."""
        nodes, tasks, per_node = (int(values.get(field, 0)) for field in ("nodes", "tasks", "tasks_per_node"))
        if tasks and per_node:
            self.check("nodes", str(-(-tasks // per_node)), f"{tasks} tasks, {per_node} per node")
        if nodes and per_node:
            self.check("tasks", str(nodes * per_node), f"{nodes} nodes, {per_node} tasks per node")
        if nodes and tasks:
            self.check("tasks_per_node", str(-(-tasks // nodes)), f"{tasks} tasks, {nodes} nodes")

    def check(self, field: str, text: str, who: str) -> None:
        if field in self._most and int(text) > self._most[field]:
            raise BuildFailureError(
                f"{who}: {text} {field.replace('_', ' ')} are more than the {self._most[field]} allowed here.",
                hint="Ask for fewer.",
            )
        if field in self._names and text not in self._names[field]:
            raise BuildFailureError(
                f"{who}: the {field} {text!r} is not allowed here.", hint=f"Allowed: {', '.join(self._names[field])}."
            )

    def check_time(self, limit: TimeLimit, who: str) -> None:
        if self.max_seconds is not None and limit.seconds > self.max_seconds:
            asked, allowed = format_duration(limit.seconds), format_duration(self.max_seconds)
            raise BuildFailureError(f"{who}: {asked} is more than the {allowed} allowed here.", hint="Ask for less.")
