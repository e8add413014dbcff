"""A job description as a command line of qsub, and what qsub answers."""

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
from crestline.model.sbatch import split_words
from crestline.wire.compute import JobDescription
from crestline.wire.iri import AttributesRequest, JobRequest

_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def prepare(job: JobDescription, tag: str, *, qsub: str, timeout: float) -> CommandLine:
    """The command line for a job; qsub is to run in its working directory.

    Args:
        job: as it was asked for.
        tag: goes into the job's environment.
        qsub: how the program is called.
        timeout: seconds that qsub may take.

    Raises:
        InvalidRequestError: it has no script, or a value that PBS has no place for.
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
        "-q": job.reservation or job.partition,  # a reservation is a queue of its own
        "-P": job.account,
        "-o": _file(directory, job.standard_output),
        "-e": _file(directory, job.standard_error),
    }
    argv = [qsub, *(word for option, value in values.items() if value for word in (option, value))]
    # Names alone: qsub takes the values from its own environment. An option here would hide the script's own -v lines.
    argv += ["-v", ",".join([*environment, *_variables_of(script)])]
    if job.script_path:
        argv.append(posixpath.join(directory, job.script_path))
    return submitting(argv, environment, script, timeout)


def job_id_of(done: Completed) -> str:
    """The id that qsub printed.

    Raises:
        InvalidRequestError: PBS refused the job; `details` has its words.
        PermissionDeniedError: as PBS words it.
        GatewayUnavailableError: it did not answer; the job may or may not be there.
    """
    words = done.stdout.decode(errors="replace").split()
    if done.exit_status == 0 and words and re.match(r"\d", words[-1]) and is_job_id(words[-1]):
        return words[-1]
    raise WORDING.submission_refusal("qsub", done)


def _variables_of(script: str) -> list[str]:
    """The variable lists of the script's `#PBS -v` lines, as they stand there."""
    found = []
    for line in script.split("\n")[1:]:
        if line.startswith("#PBS"):
            try:
                words = split_words(line.removeprefix("#PBS"))
            except ValueError:
                continue  # qsub itself complains, in better words
            lists = [after for word, after in pairwise(words) if word == "-v"]
            lists += [word[2:] for word in words if word.startswith("-v") and len(word) > 2]
            found += lists
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _file(directory: str, path: str | None) -> str | None:
    return posixpath.join(directory, path) if path else None


def directives(job: JobRequest) -> list[str]:
    """The `#PBS` lines that ask for what a job names, as `Scheduler.directives`."""
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
