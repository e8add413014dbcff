"""The batch script of a submission that must happen once on plain FirecREST: its tag, its lock, and its wrapping."""

from __future__ import annotations

import hashlib
import re
import shlex

from crestline.model import InvalidRequestError, Job
from crestline.model.sbatch import parse_directives
from crestline.model.script import insert_directives

DUPLICATE_EXIT_CODE = 113
"""Exit code of a duplicate, whose lock an earlier job of the same submission holds."""

LOCK_DIRECTORY = ".crestline"
"""below the working directory; one link for each submission, whose target is the id of the job that runs"""

_NAME_LIMIT = 200
"""FirecREST filters by names up to 235 characters, PBS takes 230"""

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
_TAGGED = re.compile(r"-c([0-9a-f]{20})$")
_OWN_NAME = re.compile(r"^#SBATCH\s+(?:--job-name[=\s]|-J\s*)(\S+)", re.MULTILINE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def tag_of(key: str) -> str:
    """20 hexadecimal digits that stand for the key in names."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:20]


def tagged_name(name: str | None, script: str, tag: str) -> str:
    """The job's name with the tag behind it; no character in it that a scheduler's table could trip over."""
    own = _OWN_NAME.search(script)
    readable = name or (own.group(1).strip("\"'") if own else "") or "job"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", readable)[:_NAME_LIMIT] + f"-c{tag}"


def tag_in(name: str) -> str | None:
    """The tag at the end of a job's name."""
    match = _TAGGED.search(name)
    return match.group(1) if match else None


def is_array(script: str) -> bool:
    """Whether its `#SBATCH` lines ask for an array; those that cannot be read are sbatch's to refuse."""
    try:
        return "array" in parse_directives(script).options
    except InvalidRequestError:
        return False


def lock_path(workdir: str, tag: str) -> str:
    """Where the lock of a submission lies."""
    return f"{workdir.rstrip('/')}/{LOCK_DIRECTORY}/{tag}"


def is_duplicate(job: Job) -> bool:
    """True for a job that ended because an earlier one of the same submission runs or has run."""
    return job.exit_code == DUPLICATE_EXIT_CODE and job.is_finished and tag_in(job.name) is not None


def wrap_script(script: str, *, name: str, lock: str, environment: dict[str, str]) -> str:
    """`script` behind a lock that lets one job through, and that job again when it is requeued.

    The variables are set in the script, since plain FirecREST cuts a value at its first comma. A script for another
    interpreter than a Unix shell is handed to it by a shell.

    Raises:
        InvalidRequestError: a variable's name that no shell takes.
    """
    script = insert_directives(script, [f"#SBATCH --job-name={name}"])
    lines = script.split("\n")
    place = _first_command(lines)
    prologue = [*_lock_lines(lock), *_export_lines(environment)]
    interpreter = lines[0].removeprefix("#!").split()
    if interpreter and _is_shell(interpreter):
        return "\n".join([*lines[:place], *prologue, *lines[place:]])
    return "\n".join(["#!/bin/bash", *lines[1:place], *prologue, *_handed_over(interpreter, script)])


def _lock_lines(lock: str) -> list[str]:
    directory = lock.rpartition("/")[0]
    return [
        "# crestline: of several jobs that come from one submission, the first runs",
        "crestline_id=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-${PBS_JOBID-}}}",
        "crestline_id=${crestline_id%%.*}",
        "crestline_id=${crestline_id%%\\[*}",
        f"crestline_lock={shlex.quote(lock)}",
        f"mkdir -p {shlex.quote(directory)} 2>/dev/null || :",
        'ln -sn "$crestline_id" "$crestline_lock" 2>/dev/null ||',
        '  [ "$(readlink "$crestline_lock")" = "$crestline_id" ] || [ ! -L "$crestline_lock" ] ||',
        '  { echo "crestline: job $(readlink "$crestline_lock") does this already" >&2; '
        f"exit {DUPLICATE_EXIT_CODE}; }}",
        "unset crestline_id crestline_lock",
    ]


def _export_lines(environment: dict[str, str]) -> list[str]:
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequestError(
                f"{name!r} cannot be the name of an environment variable.", hint="Use letters, digits and '_'."
            )
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def _handed_over(interpreter: list[str], script: str) -> list[str]:
    end = "CRESTLINE_" + hashlib.sha256(script.encode()).hexdigest()[:16]
    command = shlex.join(interpreter) if interpreter else "/bin/sh"
    return [f"exec {command} /dev/fd/9 9<<'{end}'", *script.rstrip("\n").split("\n"), end, ""]


def _is_shell(interpreter: list[str]) -> bool:
    program = interpreter[0].rpartition("/")[2]
    if program == "env":
        program = next((word for word in interpreter[1:] if not word.startswith("-") and "=" not in word), "")
        program = program.rpartition("/")[2]
    return program in _SHELLS


def _first_command(lines: list[str]) -> int:
    """The number of the line before which something can be run; all `#SBATCH` lines that count stand before it."""
    for number, line in enumerate(lines):
        if line.strip() and not line.startswith("#"):
            return number
    return len(lines)
