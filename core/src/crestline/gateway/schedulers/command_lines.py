"""Command lines that submit jobs, with a time limit and with the job's environment hidden from process lists."""

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

# The first N bytes of standard input are assignments, and the script follows. So the values appear in no list of
# processes and none is cut at a comma. $0 is the program, which is resolved before the job's PATH applies.
_WITH_ENVIRONMENT = 'set -- "$(command -v "$0")" "$@" && eval "$(head -c %d)" && exec "$@"'

_UNUSABLE_DIRECTORY = re.compile(r"cannot change directory to '(.*)': (.*)")
"""Message of env(1) in the C locale."""


@dataclass(frozen=True)
class CommandLine:
    """A command and its standard input."""

    argv: list[str]
    input: bytes


def limit(seconds: float) -> list[str]:
    """Return a prefix that limits a command's time on its own machine, because sshd does not end commands of lost
    connections."""
    return ["timeout", "--kill-after=1", f"{seconds:g}"]


def submitting(
    argv: Sequence[str], environment: Mapping[str, str], script: str, timeout: float, directory: str | None = None
) -> CommandLine:
    """Return a command line for a program that reads a script from its standard input, with `environment` set.

    Args:
        directory: working directory. If it does not exist, the program does not run and env(1) reports it. None: any.

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
    """Return the job's environment as a mapping.

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
    """Return the text of the script, or an empty string for a script on the system.

    Raises:
        InvalidRequestError: the job has no script, or it is too long.
    """
    if not job.script and not job.script_path:
        raise InvalidRequestError("A script is required.", hint="Send `script` or `scriptPath`.")
    script = "" if job.script_path else job.script or ""
    check_script_size(len(script))
    return script


def directory_of(job: JobDescription) -> str:
    """Return the working directory.

    Raises:
        InvalidRequestError: the directory is not absolute.
    """
    if not job.working_directory.startswith("/"):
        raise InvalidRequestError(
            f"The working directory {job.working_directory[:200]!r} is not absolute.",
            hint="Give a path that begins with '/'.",
        )
    return job.working_directory


def directory_refusal(said: tuple[str, ...]) -> InvalidRequestError | None:
    """Return the error if env(1) could not change into the working directory, otherwise None.

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
    """Combine command lines into one that runs them in turn, and return it with the mark that `outcomes` needs.

    The input of each is part of the program, which travels by standard input, so other users cannot see it. If one of
    them runs into its time limit, the remaining ones do not run.

    Args:
        lines: the command lines.
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
    """Return how each of the combined commands ended; None: unknown."""
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
    """Return the output before each mark and the exit status in the mark, by number of the command."""
    parts = re.split(rb"\n%b (\d+) (\d+)\n" % mark.encode(), stream)
    return {int(number): (text, int(status)) for text, number, status in zip(*[iter(parts[:-1])] * 3, strict=True)}
