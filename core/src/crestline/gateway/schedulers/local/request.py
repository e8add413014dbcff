"""Parses a `JobDescription` and the `#SBATCH` lines of its script once, at submission."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from datetime import datetime

import msgspec

from crestline.gateway.schedulers.directives import Array, parse_array, parse_begin
from crestline.gateway.schedulers.local.queue import Resources
from crestline.model import InvalidRequestError
from crestline.model.memory import parse_memory
from crestline.model.sbatch import Directives, parse_count, parse_directives, parse_nodes
from crestline.model.time_limits import parse_time_limit
from crestline.wire.compute import LONGEST_TEXT, JobDescription

_HEEDED = frozenset(
    {
        "account", "array", "begin", "chdir", "cpus-per-task", "dependency", "error", "exclusive", "export", "hold",
        "input", "job-name", "kill-on-invalid-dep", "mem", "mem-per-cpu", "nodes", "ntasks", "ntasks-per-node",
        "open-mode", "output", "partition", "reservation", "time",
    }
)  # fmt: skip
_HARMLESS = frozenset(
    {
        "comment", "deadline", "get-user-env", "ignore-pbs", "mail-type", "mail-user", "nice", "no-kill", "no-requeue",
        "overcommit", "oversubscribe", "parsable", "priority", "propagate", "qos", "quiet", "requeue", "spread-job",
        "time-min", "use-min-nodes", "verbose", "wait-all-nodes", "wckey",
    }
)  # fmt: skip


_MOST_WARNINGS = 20
"""Maximum number of warnings about unknown options."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """All options of a job or of each task of a job array, including `#SBATCH` lines."""

    name: str
    account: str
    partition: str
    directory: str
    resources: Resources
    environment: dict[str, str] = {}
    stdin: str | None = None
    """Pattern of the file name, see `streams`."""
    stdout: str | None = None
    stderr: str | None = None
    append: bool = False
    time_limit: int | None = None
    """Time limit in seconds."""
    array: str | None = None
    dependency: str | None = None
    cancel_on_invalid_dependency: bool = False
    begin: float | None = None
    """Seconds since the epoch."""
    hold: bool = False
    warnings: tuple[str, ...] = ()
    """Options that are ignored."""

    tasks_at_once: int | None = None
    """Maximum number of tasks of the job array that run at the same time."""

    @property
    def tasks(self) -> Array | None:
        """The tasks of the job array, None for a single job."""
        return parse_array(self.array) if self.array is not None else None


def check_script(script: str) -> None:
    """Refuse a script that cannot run.

    Raises:
        InvalidRequestError: the script lacks an interpreter line, or has DOS line breaks or NUL characters.
    """
    if not script.startswith("#!") or not script.split("\n", 1)[0][2:].strip():
        raise InvalidRequestError(
            "This does not look like a batch script: its first line does not name an interpreter.",
            hint="Begin the script with #! and an interpreter, for example #!/bin/bash.",
        )
    if "\r\n" in script:
        raise InvalidRequestError(
            "The batch script has DOS line breaks (CR LF).", hint="Convert it to UNIX line breaks, LF alone."
        )
    if "\0" in script:
        raise InvalidRequestError("The batch script has NUL characters.", hint="Send a text file.")


def interpreter(script: str) -> list[str]:
    """Return the program and at most one argument of the first line, as Linux parses it."""
    return script.split("\n", 1)[0][2:].strip().split(None, 1)


def read_request(
    job: JobDescription, script: str, *, user: str, partitions: Mapping[str, int | None], now: datetime
) -> Request:
    """Return the options of `job`. Its own fields take precedence over the `#SBATCH` lines.

    Args:
        job: the job as submitted.
        script: text of the script.
        user: owner of the job, and the default of its account.
        partitions: name -> default time limit in seconds. The first is the default partition.
        now: local time, for `--begin`.

    Raises:
        InvalidRequestError: a value is invalid.
    """
    directives = parse_directives(script)
    options = directives.options
    if job.reservation or "reservation" in options:
        raise InvalidRequestError("This system has no reservations.", hint="Submit without a reservation.")
    partition = job.partition or options.get("partition") or next(iter(partitions))
    if partition not in partitions:
        raise InvalidRequestError(f"Unknown partition {partition!r}.", hint=f"Choose one of: {', '.join(partitions)}.")
    limit = parse_time_limit(options["time"]) if "time" in options else partitions[partition]
    array = options.get("array")
    tasks_at_once = parse_array(array).at_once if array is not None else None
    default_name = posixpath.basename(job.script_path) if job.script_path else "sbatch"
    request = Request(
        name=job.name or options.get("job-name") or default_name,
        account=job.account or options.get("account") or user,
        partition=partition,
        directory=_directory(job, options),
        resources=_resources(options),
        # `--export=ALL,A=1` sets the assignments only. A job never gets the gateway's own environment.
        environment=_environment([word for word in options.get("export", "").split(",") if "=" in word])
        | _environment(job.env),
        stdin=job.standard_input or options.get("input"),
        stdout=job.standard_output or options.get("output"),
        stderr=job.standard_error or options.get("error"),
        append=_open_mode(options.get("open-mode", "truncate")),
        time_limit=limit,
        array=array,
        tasks_at_once=tasks_at_once,
        dependency=options.get("dependency"),
        cancel_on_invalid_dependency=options.get("kill-on-invalid-dep") == "yes",
        begin=parse_begin(options["begin"], now).timestamp() if "begin" in options else None,
        hold="hold" in options,
        warnings=_warnings(job, directives),
    )
    for field in ("name", "account", "directory", "stdin", "stdout", "stderr"):
        value = getattr(request, field) or ""
        if not _is_text(value):
            raise InvalidRequestError(
                f"The {field} of the job has a NUL character or is not Unicode.", hint="Leave that character out."
            )
        if len(value) > LONGEST_TEXT:  # lists of jobs send it to all users
            raise InvalidRequestError(
                f"The {field} of the job has more than {LONGEST_TEXT} characters.", hint="Shorten it."
            )
    return request


def _is_text(value: str) -> bool:
    """Whether the operating system accepts the text as a file name or in an environment."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _warnings(job: JobDescription, directives: Directives) -> tuple[str, ...]:
    lines = [f"#SBATCH option {word[:80]} is unknown and was ignored" for word in directives.unknown[:_MOST_WARNINGS]]
    if (more := len(directives.unknown) - _MOST_WARNINGS) > 0:
        lines.append(f"{more} more #SBATCH options are unknown and were ignored")
    lines += [
        f"#SBATCH option --{name} has no effect on this system"
        for name in directives.options
        if name not in _HEEDED and name not in _HARMLESS
    ]
    if job.constraints:
        lines.append("constraints have no effect on this system")
    return tuple(line.replace("\n", " ") for line in lines)


def _directory(job: JobDescription, options: Mapping[str, str]) -> str:
    directory = job.working_directory or options.get("chdir", "")
    if not directory.startswith("/"):
        raise InvalidRequestError(
            f"The working directory {directory!r} is not absolute.", hint="Give a path that begins with '/'."
        )
    return os.path.normpath(directory)


def _resources(options: Mapping[str, str]) -> Resources:
    def count(option: str) -> int | None:
        return parse_count(options[option], option) if option in options else None

    nodes = parse_nodes(options["nodes"])[0] if "nodes" in options else None
    tasks, per_node = count("ntasks"), count("ntasks-per-node")
    if tasks is None:
        nodes = nodes or 1
        tasks = nodes * (per_node or 1)
    if nodes is not None:
        nodes = min(nodes, tasks)
    if "mem" in options and "mem-per-cpu" in options:
        raise InvalidRequestError("--mem and --mem-per-cpu exclude each other.", hint="Leave one out.")
    return Resources(
        nodes=nodes,
        tasks=tasks,
        tasks_per_node=per_node,
        cpus_per_task=count("cpus-per-task") or 1,
        memory_per_node=parse_memory(options["mem"]) if "mem" in options else None,
        memory_per_cpu=parse_memory(options["mem-per-cpu"]) if "mem-per-cpu" in options else None,
        exclusive="exclusive" in options,
    )


def _environment(given: Mapping[str, str] | list[str] | None) -> dict[str, str]:
    if isinstance(given, list):
        for word in given:
            if "=" not in word:
                raise InvalidRequestError(
                    f"The environment entry {word[:40]!r} has no value.", hint="Write each as NAME=value."
                )
        given = dict(word.split("=", 1) for word in given)
    found = dict(given or {})
    for name, value in found.items():
        if not name or "=" in name or not _is_text(name) or not _is_text(value):
            raise InvalidRequestError(
                f"The environment variable {name[:40]!r} cannot be set.",
                hint="A name is not empty and has no '='; name and value are Unicode without NUL characters.",
            )
    return found


def _open_mode(text: str) -> bool:
    if text not in ("append", "truncate"):
        raise InvalidRequestError(f"--open-mode={text[:40]!r} is unknown.", hint="Use append or truncate.")
    return text == "append"
