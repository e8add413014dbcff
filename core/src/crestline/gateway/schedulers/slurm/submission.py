"""The command line of sbatch for a job, and the parser of its answer."""

from __future__ import annotations

import posixpath
import re

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import CommandLine, directory_of, environment_of, script_of, submitting
from crestline.gateway.schedulers.slurm.commands import WORDING
from crestline.model import InvalidRequestError
from crestline.model.sbatch import parse_directives
from crestline.wire.compute import JobDescription


def prepare(job: JobDescription, tag: str, *, sbatch: str, timeout: float) -> CommandLine:
    """Return the command line for a job.

    The job's own fields take precedence over the `#SBATCH` lines of its script, as options of sbatch do.

    Args:
        job: the job as requested.
        tag: tag for the job's comment, before the script's own comment.
        sbatch: name or path of the program.
        timeout: seconds for sbatch.

    Raises:
        InvalidRequestError: the job has no script, or a value that cannot be passed to sbatch.
    """
    script, environment = script_of(job), environment_of(job)
    options = parse_directives(script).options
    if "wait" in options:
        raise InvalidRequestError("The script asks sbatch to wait for its end.", hint="Leave --wait out.")
    comment = f"{tag} {options.get('comment', '')}".strip()
    argv = [sbatch, "--parsable", f"--comment={comment}", *_options(job)]
    if environment:
        argv.append("--export=ALL")
    if job.script_path:
        argv.append(posixpath.join(job.working_directory, job.script_path))
    return submitting(argv, environment, script, timeout, directory_of(job))


def job_id_of(done: Completed) -> str:
    """Return the id that `sbatch --parsable` printed.

    Raises:
        InvalidRequestError: Slurm refused the job. `details` has its message.
        PermissionDeniedError: Slurm refused the user.
        GatewayUnavailableError: Slurm did not respond. The job may or may not exist.
    """
    if done.exit_status == 0:
        lines = done.stdout.decode(errors="replace").split()
        if lines and (match := re.fullmatch(r"(\d+)(;\S*)?", lines[-1], re.ASCII)):
            return match[1]
    said = reversed(WORDING.stderr_lines(done))
    reason = next((line for line in said if line.startswith("Batch job submission failed")), "")
    raise WORDING.submission_refusal("sbatch", done, what=reason, hint=_hint)


_HINTS = {
    "partition": "GET /status/{system}/partitions lists the partitions.",
    "account": "GET /status/{system}/userinfo lists your accounts.",
    "reservation": "GET /status/{system}/reservations lists the reservations.",
    "unrecognized option": "Correct that #SBATCH line.",
    "line breaks": "Convert the script to UNIX line breaks, LF alone.",
    "does not look like a batch script": "Begin the script with #! and an interpreter, for example #!/bin/bash.",
    "unable to open file": "Give the absolute path of a script that you can read on the system.",
    "dependency": "Depend on jobs that Slurm still knows.",
}


def _hint(said: str) -> str:
    return next((hint for word, hint in _HINTS.items() if word in said.lower()), "Correct the job description.")


def _options(job: JobDescription) -> list[str]:
    values = {
        "chdir": directory_of(job),
        "job-name": job.name,
        "account": job.account,
        "reservation": job.reservation,
        "partition": job.partition,
        "input": job.standard_input,
        "output": job.standard_output,
        "error": job.standard_error,
        "constraint": job.constraints,
    }
    return [f"--{option}={value}" for option, value in values.items() if value]
