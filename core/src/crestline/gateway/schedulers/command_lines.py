"""Command lines that submit: limited in time, with the job's environment out of sight."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.script_files import check_script_size
from crestline.model import InvalidRequestError
from crestline.model.directories import missing_directory
from crestline.wire.compute import JobDescription

# The first N bytes of standard input are assignments, the script follows. So no value shows in a list of processes and
# none can be cut at a comma. $0 is the program, found before the job's PATH takes over.
_WITH_ENVIRONMENT = 'set -- "$(command -v "$0")" "$@" && eval "$(head -c %d)" && exec "$@"'

_UNUSABLE_DIRECTORY = re.compile(r"cannot change directory to '(.*)': (.*)")
"""of env(1), in the C locale"""


@dataclass(frozen=True)
class CommandLine:
    """What to run, and what it reads."""

    argv: list[str]
    input: bytes


def limit(seconds: float) -> list[str]:
    """The words before a command that end it on its own machine: sshd ends none whose connection is gone."""
    return ["timeout", "--kill-after=1", f"{seconds:g}"]


def submitting(
    argv: Sequence[str], environment: Mapping[str, str], script: str, timeout: float, directory: str | None = None
) -> CommandLine:
    """A program that reads a script from its standard input and finds `environment` around it.

    Args:
        directory: where it runs; if that does not exist, it does not run, and env(1) says so. None: anywhere.

    Raises:
        InvalidRequestError: an argument, a variable or the script cannot be passed on.
    """
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise InvalidRequestError(
                f"The environment variable {name[:40]!r} cannot be set.",
                hint="A name consists of letters, digits and underscores.",
            )
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    if any("\0" in each for each in (*argv, exports, script, directory or "")):
        raise InvalidRequestError("The job description has a NUL character.", hint="Leave it out.")
    if exports:
        argv = ["sh", "-c", _WITH_ENVIRONMENT % len(exports.encode()), *argv]
    place = ["env", f"--chdir={directory}"] if directory is not None else []
    return CommandLine([*limit(timeout), *place, *argv], (exports + script).encode())


def environment_of(job: JobDescription) -> dict[str, str]:
    """The job's environment as a mapping.

    Raises:
        InvalidRequestError: an entry is not an assignment.
    """
    if isinstance(job.env, Mapping):
        return dict(job.env)
    found = {}
    for word in job.env or ():
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidRequestError(
                f"The environment entry {word[:40]!r} has no value.", hint="Write each as NAME=value."
            )
        found[name] = value
    return found


def script_of(job: JobDescription) -> str:
    """The text of the script, empty for one that lies on the system.

    Raises:
        InvalidRequestError: there is none, or it is too long.
    """
    if not job.script and not job.script_path:
        raise InvalidRequestError("A script is required.", hint="Send `script` or `scriptPath`.")
    script = "" if job.script_path else job.script or ""
    check_script_size(len(script))
    return script


def directory_of(job: JobDescription) -> str:
    """The working directory.

    Raises:
        InvalidRequestError: it is not absolute.
    """
    if not job.working_directory.startswith("/"):
        raise InvalidRequestError(
            f"The working directory {job.working_directory[:200]!r} is not absolute.",
            hint="Give a path that begins with '/'.",
        )
    return job.working_directory


def directory_refusal(said: tuple[str, ...]) -> InvalidRequestError | None:
    """The error for a working directory that env(1) could not change into; None if it complains of nothing such.

    Args:
        said: the lines that the command line wrote to stderr.
    """
    for line in said:
        if match := _UNUSABLE_DIRECTORY.search(line):
            path, reason = match.groups()
            if reason == os.strerror(errno.ENOENT):
                message, hint = missing_directory(path)
            else:
                message, hint = (
                    f"The working directory {path} cannot be used: {reason}.",
                    "Name one that you may enter.",
                )
            return InvalidRequestError(message, hint=hint, details=said)
    return None


def combine(lines: Sequence[CommandLine], timeout: float) -> tuple[CommandLine, str]:
    """One command line that runs these one after the other, and the word by which `outcomes` tells them apart.

    What they read is part of the program, which travels by standard input like all that other users must not see.
    After one that ran into its time limit the others are left out: they would fare no better.

    Args:
        lines: what to run.
        timeout: seconds for all of them.
    """
    mark = f"crestline-{secrets.token_hex(16)}"
    program = []
    for number, line in enumerate(lines):
        end = b"" if not line.input or line.input.endswith(b"\n") else b"\n"
        report = f"printf '\\n{mark} {number} %d\\n' $s"
        program += [
            shlex.join(line.argv).encode() + f" <<'{mark}'\n".encode() + line.input + end + f"{mark}\n".encode(),
            f"s=$?; {report}; {report} >&2; case $s in 124|137) exit;; esac\n".encode(),
        ]
    return CommandLine([*limit(timeout), "sh", "-s"], b"".join(program)), mark


def outcomes(done: Completed, mark: str, count: int) -> list[Completed | None]:
    """Return how each of `together`'s commands ended; None: unknown."""
    said = (_by_number(done.stdout, mark), _by_number(done.stderr, mark))
    found: list[Completed | None] = []
    for number in range(count):
        if all(number in each for each in said):
            (out, status), (err, _) = (each[number] for each in said)
            found.append(Completed(status, out, err))
        else:
            found.append(None)
    return found


def _by_number(stream: bytes, mark: str) -> dict[int, tuple[bytes, int]]:
    """What stands before each mark, and the exit status that it names."""
    parts = re.split(rb"\n%b (\d+) (\d+)\n" % mark.encode(), stream)
    return {int(number): (text, int(status)) for text, number, status in zip(*[iter(parts[:-1])] * 3, strict=True)}
