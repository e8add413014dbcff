"""The command line of qsub for a job, and the parser of its answer."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import CommandLine, directory_of, environment_of, script_of, submitting
from crestline.gateway.schedulers.directives import mebibytes, plain_value
from crestline.gateway.schedulers.pbs.commands import WORDING
from crestline.gateway.schedulers.pbs.jobs import KEY_VARIABLE, is_job_id
from crestline.model import InvalidRequestError
from crestline.model.sbatch import split_options
from crestline.wire.compute import JobDescription
from crestline.wire.iri import AttributesRequest, JobRequest

_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def prepare(job: JobDescription, tag: str, *, qsub: str, timeout: float) -> CommandLine:
    """Return the command line for a job. qsub runs in the job's working directory.

    Args:
        job: the job as requested.
        tag: tag for the job's environment.
        qsub: name or path of the program.
        timeout: seconds for qsub.

    Raises:
        InvalidRequestError: the job has no script, or has an option that PBS does not support.
    """
    for field, value in (("constraints", job.constraints), ("standardInput", job.standard_input)):
        if value:
            raise InvalidRequestError(
                f"PBS has nothing like {field}.", hint="Leave it out, or say it in a #PBS line of the script."
            )
    script = script_of(job)
    environment = environment_of(job) | {KEY_VARIABLE: tag}
    directory = directory_of(job)
    values = {
        "-N": job.name,
        "-q": job.reservation or job.partition,  # a reservation has its own queue
        "-P": job.account,
        "-o": _file(directory, job.standard_output),
        "-e": _file(directory, job.standard_error),
    }
    argv = [qsub, *(word for option, value in values.items() if value for word in (option, value))]
    # Names only: qsub takes the values from its own environment. With an option here, qsub would ignore the script's
    # own -v lines.
    argv += ["-v", ",".join([*environment, *_variables_of(script)])]
    if job.script_path:
        argv.append(posixpath.join(directory, job.script_path))
    return submitting(argv, environment, script, timeout)


def job_id_of(done: Completed) -> str:
    """Return the id that qsub printed.

    Raises:
        InvalidRequestError: PBS refused the job. `details` has its message.
        PermissionDeniedError: PBS refused the user.
        GatewayUnavailableError: PBS did not respond. The job may or may not exist.
    """
    words = done.stdout.decode(errors="replace").split()
    if done.exit_status == 0 and words and re.match(r"\d", words[-1]) and is_job_id(words[-1]):
        return words[-1]
    raise WORDING.submission_refusal("qsub", done)


def _variables_of(script: str) -> list[str]:
    """Return the variable lists of the script's `#PBS -v` lines."""
    found = []
    for line in script.split("\n")[1:]:
        if line.startswith("#PBS"):
            try:
                words = split_options(line.removeprefix("#PBS"))
            except ValueError:
                continue  # qsub reports the error itself
            lists = [after for word, after in pairwise(words) if word == "-v"]
            lists += [word[2:] for word in words if word.startswith("-v") and len(word) > 2]
            found += lists
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _file(directory: str, path: str | None) -> str | None:
    return posixpath.join(directory, path) if path else None


def directives(job: JobRequest) -> list[str]:
    """Return the `#PBS` lines for a job of the IRI API, as `Scheduler.directives`."""
    attributes = job.attributes or AttributesRequest()
    lines = []
    wanted = job.resources
    if wanted is not None:
        per_node = wanted.processes_per_node
        nodes = wanted.node_count
        if nodes is None and wanted.process_count and per_node:
            nodes = -(-wanted.process_count // per_node)
        if per_node is None and wanted.process_count:
            per_node = -(-wanted.process_count // (nodes or 1))
        chunk = {
            "ncpus": (per_node or 1) * wanted.cpu_cores_per_process if wanted.cpu_cores_per_process else per_node,
            "mpiprocs": per_node,
            "ngpus": (per_node or 1) * wanted.gpu_cores_per_process if wanted.gpu_cores_per_process else None,
            "mem": f"{mebibytes(wanted.memory)}mb" if wanted.memory else None,
        }
        said = [f"{name}={value}" for name, value in chunk.items() if value is not None]
        lines.append(f"#PBS -l select={':'.join([str(nodes or 1), *said])}")
        lines += ["#PBS -l place=excl"] if wanted.exclusive_node_use else []
    if attributes.duration:
        lines.append(f"#PBS -l walltime={attributes.duration}")
    for name, value in attributes.custom_attributes.items():
        if not _RESOURCE.fullmatch(name) or not value or " " in value:
            raise InvalidRequestError(
                f"Invalid custom attribute: {name[:80]!r}.", hint="Name a resource of PBS and a value without spaces."
            )
        lines.append(f"#PBS -l {name}={plain_value(name, value)}")
    return lines
