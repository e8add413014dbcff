"""A JobSpec rendered as the batch script that any FirecREST v2 gateway accepts."""

from __future__ import annotations

from crestline.model.errors import InvalidRequestError
from crestline.model.job import JobSpec
from crestline.model.time_limits import format_duration

BYTE_ORDER_MARK = "\ufeff"
"""what some editors begin a text with; the system would look for a program of that name"""

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
    """The `#SBATCH` lines for what FirecREST's JobDescription cannot carry.

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
    """The script of `spec` with its resources as `#SBATCH` lines.

    They stand behind the script's own `#SBATCH` lines: Slurm takes the last of two, so what the spec says wins, as an
    option on sbatch's command line would.

    Raises:
        InvalidRequestError: no script, or one that does not start with `#!`.
    """
    script = (spec.script or "").removeprefix(BYTE_ORDER_MARK)
    if not script.startswith("#!"):
        raise InvalidRequestError(
            "The script does not start with '#!'.", hint="Begin it with an interpreter line such as #!/bin/bash."
        )
    return insert_directives(script, render_directives(spec))


def insert_directives(script: str, directives: list[str]) -> str:
    """`script` with more `#SBATCH` lines behind its own, before its first command and its first `hetjob` part."""
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
