"""Render a `JobSpec` as a batch script that any FirecREST v2 gateway accepts."""

from __future__ import annotations

from crestline.model.errors import InvalidRequestError
from crestline.model.job import JobSpec
from crestline.model.time_limits import format_duration

BYTE_ORDER_MARK = "\ufeff"
"""character that some editors put before a text; with it, the system does not recognize `#!`"""

# JobSpec field -> sbatch option, for what FirecREST's own JobDescription has no field for.
_OPTIONS = {
    "time_limit": "time",
    "nodes": "nodes",
    "tasks": "ntasks",
    "tasks_per_node": "ntasks-per-node",
    "cpus_per_task": "cpus-per-task",
    "memory": "mem",
    "gpus": "gpus",
    "qos": "qos",
    "array": "array",
    "dependency": "dependency",
}


def render_directives(spec: JobSpec) -> list[str]:
    """Return the `#SBATCH` lines for the resources that FirecREST's JobDescription has no field for.

    Raises:
        InvalidRequestError: a value has a line break or a space, which would start another option.
    """
    lines = []
    for field, option in _OPTIONS.items():
        value = getattr(spec, field)
        if value is None:
            continue
        text = format_duration(value) if field == "time_limit" and not isinstance(value, str) else str(value)
        if not text or any(character.isspace() for character in text):
            raise InvalidRequestError(
                f"{field}={text!r} cannot be a value of --{option}.",
                hint="Give one value without white space; put several options into `directives`, one each.",
            )
        lines.append(f"#SBATCH --{option}={text}")
    if spec.exclusive:
        lines.append("#SBATCH --exclusive")
    for directive in spec.directives:
        if "\n" in directive or "\r" in directive or not directive.startswith("-"):
            raise InvalidRequestError(
                f"{directive!r} is not a scheduler option.", hint="Write it as `--option=value`, one option each."
            )
        lines.append(f"#SBATCH {directive}")
    return lines


def render_script(spec: JobSpec) -> str:
    """Return the script of `spec` with its resources as `#SBATCH` lines.

    The lines follow the script's own `#SBATCH` lines. Of two lines for one option Slurm uses the last, so `spec`
    overrides the script as options on sbatch's command line do (sbatch(1)).

    Raises:
        InvalidRequestError: `spec` has no script, or the script does not start with `#!`.

    >>> print(render_script(JobSpec(script="#!/bin/sh\\ndate", nodes=2)))
    #!/bin/sh
    #SBATCH --nodes=2
    date
    """
    script = (spec.script or "").removeprefix(BYTE_ORDER_MARK)
    if not script.startswith("#!"):
        raise InvalidRequestError(
            "The script does not start with '#!'.", hint="Begin it with an interpreter line such as #!/bin/bash."
        )
    return insert_directives(script, render_directives(spec))


def insert_directives(script: str, directives: list[str]) -> str:
    """Return `script` with `directives` after its own `#SBATCH` lines, before a command or a `hetjob` line."""
    if not directives:
        return script
    lines = script.split("\n")
    place = 1
    for number, line in enumerate(lines[1:], start=1):
        if line.startswith("#SBATCH"):
            if line.split()[1:2] == ["hetjob"]:
                break
            place = number + 1
        elif line.strip() and not line.startswith("#"):
            break
    return "\n".join([*lines[:place], *directives, *lines[place:]])
