"""Converts the API's jobs (a program with arguments, as in PSI/J) to batch scripts, and back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from crestline.gateway.iri.errors import UnprocessableError
from crestline.model import InvalidRequestError
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata
from crestline.wire.iri import AttributesRequest, JobAttributes, JobRequest, JobSpec

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BEGIN, _END = "# The job's program:", "# Its end:"
_NOT_WITH_SCRIPT = ("arguments", "pre_launch", "post_launch", "launcher")


def describe(job: JobRequest, directives: Callable[[JobRequest], list[str]], default_directory: str) -> JobDescription:
    """Return the job for the gateway's schedulers.

    Args:
        job: the job as requested.
        directives: see `Scheduler.directives`.
        default_directory: working directory of a job without one.

    Raises:
        InvalidRequestError: a value cannot be passed to the scheduler.
        UnprocessableError: the job has no program, or needs a container.
    """
    if job.container is not None:
        raise UnprocessableError("Containers are not supported.", hint="Run the container's program in the job.")
    attributes = job.attributes or AttributesRequest()
    return JobDescription(
        working_directory=job.directory or default_directory,
        name=job.name,
        account=attributes.account,
        reservation=attributes.reservation_id,
        partition=attributes.queue_name,
        standard_input=job.stdin_path,
        standard_output=job.stdout_path,
        standard_error=job.stderr_path,
        env=job.environment if job.environment and job.inherit_environment else None,
        script=_script(job, directives(job)),
    )


def launched(script: str) -> list[str] | None:
    """Return the program and the arguments that `describe` has written into a script; None for other scripts."""
    begin, end = script.find(f"\n{_BEGIN}\n"), script.rfind(f"\n{_END}\n")
    if not 0 <= begin < end:
        return None
    try:
        return shlex.split(script[begin + len(_BEGIN) + 2 : end])
    except ValueError:
        return None


def spec_of(info: JobInfo, metadata: JobMetadata | None) -> JobSpec:
    """Return the specification of a scheduler's job; without `metadata`, it has no program."""
    spec = JobSpec(
        name=info.name or None,
        directory=info.working_directory or None,
        attributes=JobAttributes(
            duration=info.time.limit or None, queue_name=info.partition or None, account=info.account or None
        ),
    )
    if metadata is not None:
        spec.stdin_path = metadata.standard_input or None
        spec.stdout_path = metadata.standard_output or None
        spec.stderr_path = metadata.standard_error or None
        if metadata.script:
            words = launched(metadata.script) or ["/bin/bash", "-c", metadata.script]
            spec.executable, spec.arguments = words[0], words[1:]
    return spec


def _script(job: JobRequest, directives: list[str]) -> str:
    if job.executable is None:
        raise UnprocessableError(
            "The job has no executable.", hint="Name a program, or give a whole script that begins with #!."
        )
    if job.executable.startswith("#!"):
        if given := [name for name in _NOT_WITH_SCRIPT if getattr(job, name)]:
            raise UnprocessableError(
                f"An executable that is a script takes no {', '.join(given)}.", hint="Write them into the script."
            )
        first, _, rest = job.executable.partition("\n")
        return "\n".join([first, *directives, rest])
    lines = ["#!/bin/bash", *directives]
    if not job.inherit_environment:
        lines += [f"export {_variable(name)}={shlex.quote(value)}" for name, value in job.environment.items()]
    # Without a command before it, its comments would be directives.
    lines += [":", job.pre_launch] if job.pre_launch else []
    command = [*_launcher(job.launcher), job.executable, *job.arguments]
    lines += [_BEGIN, shlex.join(command), _END]
    if job.post_launch:
        lines += ["crestline_status=$?", job.post_launch, 'exit "$crestline_status"']
    return "\n".join(lines) + "\n"


def _launcher(text: str | None) -> list[str]:
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise InvalidRequestError(f"Invalid launcher: {error}.", hint="Name a program, for example srun.") from None
    if words == ["single"]:
        return []
    if words == ["multiple"]:
        raise UnprocessableError("The launcher `multiple` is not supported.", hint="Name srun or mpirun.")
    return words


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise InvalidRequestError(
            f"Invalid name of an environment variable: {name[:40]!r}.",
            hint="Use letters, digits and underscores.",
        )
    return name
