"""`crestline-sbatch`: submit batch scripts."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.slurm.clusters import find_cluster
from crestline.cli.slurm.program import CommandError, on_system, read_environment, run, slurm_answer
from crestline.model import FileMissingError, InvalidRequestError, Job, JobSpec, PermissionDeniedError
from crestline.model.sbatch import parse_arguments, parse_directives

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "sbatch"
FIELDS = {
    "account": "account",
    "partition": "partition",
    "reservation": "reservation",
    "constraint": "constraint",
    "job-name": "name",
    "input": "stdin",
    "output": "stdout",
    "error": "stderr",
}
"""Options with a field in FirecREST's job. All others become `#SBATCH` lines."""
_OURS = frozenset(
    {"chdir", "clusters", "export", "get-user-env", "parsable", "quiet", "verbose", "wait", "wrap", "ignore-pbs"}
)
_BARE = ("allocation failure: ", "Invalid time specification")
"""Beginnings of messages that sbatch prints without its name."""
_UNSERVED = {
    "export-file": "name the variables in --export",
    "uid": "jobs run as the signed-in user",
    "gid": "jobs run as the signed-in user",
}
_VARIABLES = {
    "SBATCH_ACCOUNT": "account", "SBATCH_ARRAY_INX": "array", "SBATCH_CLUSTERS": "clusters",
    "SBATCH_CONSTRAINT": "constraint", "SBATCH_EXCLUSIVE": "exclusive", "SBATCH_EXPORT": "export",
    "SBATCH_GRES": "gres", "SBATCH_GPUS": "gpus", "SBATCH_JOB_NAME": "job-name", "SBATCH_MEM_PER_NODE": "mem",
    "SBATCH_MEM_PER_CPU": "mem-per-cpu", "SBATCH_OUTPUT": "output", "SBATCH_ERROR": "error", "SBATCH_INPUT": "input",
    "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos", "SBATCH_RESERVATION": "reservation",
    "SBATCH_ACCTG_FREQ": "acctg-freq", "SBATCH_BATCH": "batch", "SBATCH_CHDIR": "chdir",
    "SBATCH_CORE_SPEC": "core-spec", "SBATCH_CPU_FREQ_REQ": "cpu-freq", "SBATCH_CPUS_PER_GPU": "cpus-per-gpu",
    "SBATCH_DEBUG": "verbose!", "SBATCH_DELAY_BOOT": "delay-boot", "SBATCH_DEPENDENCY": "dependency",
    "SBATCH_DISTRIBUTION": "distribution", "SBATCH_GPU_BIND": "gpu-bind", "SBATCH_GPU_FREQ": "gpu-freq",
    "SBATCH_GPUS_PER_NODE": "gpus-per-node", "SBATCH_GPUS_PER_TASK": "gpus-per-task", "SBATCH_HINT": "hint",
    "SBATCH_MEM_PER_GPU": "mem-per-gpu", "SBATCH_NETWORK": "network", "SBATCH_NO_REQUEUE": "no-requeue!",
    "SBATCH_OPEN_MODE": "open-mode", "SBATCH_OVERCOMMIT": "overcommit!", "SBATCH_PROFILE": "profile",
    "SBATCH_REQ_SWITCH": "switches", "SBATCH_REQUEUE": "requeue!", "SBATCH_SIGNAL": "signal",
    "SBATCH_SPREAD_JOB": "spread-job!", "SBATCH_THREADS_PER_CORE": "threads-per-core",
    "SBATCH_TIMELIMIT": "time", "SBATCH_USE_MIN_NODES": "use-min-nodes!", "SBATCH_WAIT": "wait!",
    "SBATCH_WCKEY": "wckey", "SLURM_CLUSTERS": "clusters",
}  # fmt: skip
"""Variables and the options that they set. They override the script, and the command line overrides them."""


def main() -> None:
    """Console script `crestline-sbatch`."""
    run(_PROGRAM, sbatch)


def sbatch(words: list[str]) -> int:
    """Submit a job and print its id."""
    given, rest = _arguments(words)
    refuse(_PROGRAM, given, _UNSERVED)
    script = _script(given, rest)
    try:
        written = parse_directives(script).options
    except InvalidRequestError as error:
        raise CommandError(f"{_PROGRAM}: error: {error}") from None
    target, system = find_cluster(_PROGRAM, given.get("clusters") or written.get("clusters"))
    spec = _spec(given, written, script, rest)
    chdir = given.get("chdir", written.get("chdir"))

    async def submit(there: System) -> int:
        workdir = await find_workdir(_PROGRAM, there, chdir)
        there_spec = msgspec.structs.replace(spec, workdir=workdir)
        if "test-only" in given | written:
            return await _test_only(there, there_spec)
        job = await there.submit(there_spec)
        _announce(job, there.name, given)
        if "wait" not in given or (await there.wait(job)).state.is_success:
            return 0
        return max((each.exit_code or 1) for each in await there.array_tasks(job) if not each.state.is_success)

    with scheduler_refusals(_PROGRAM, "Batch job submission failed"):
        return on_system(target, system, submit)


async def _test_only(there: System, spec: JobSpec) -> int:
    """Print when the job would start.

    With `--test-only`, Slurm's own sbatch prints the start time in place of a job id. The gateway then reports a
    refused job with this output.

    Raises:
        CommandError: other schedulers, and gateways other than Crestline's, might submit the job.
    """
    if await slurm_answer(there, "scontrol", ["ping"]) is None:
        raise CommandError(
            f"{_PROGRAM}: error: --test-only cannot be served: only a Crestline gateway on Slurm tells when a job "
            "would start. Leave it out to submit the job."
        )
    try:
        job = await there.submit(spec)
    except InvalidRequestError as refusal:
        if not (told := [line for line in refusal.details if " to start at " in line]):
            raise
        print(*(f"{_PROGRAM}: {line}" for line in told), sep="\n", file=sys.stderr)
        return 0
    await there.cancel(job)
    raise CommandError(f"{_PROGRAM}: error: {there.name} submitted job {job.job_id} for all that; it is cancelled.")


def refuse(program: str, given: Mapping[str, str], unserved: Mapping[str, str]) -> None:
    """Reject options that cannot be served.

    Args:
        unserved: the options, each with the reason.

    Raises:
        CommandError: one of these options is given.
    """
    for name, why in unserved.items():
        if name in given:
            raise CommandError(f"{program}: error: --{name} cannot be served: {why}.")


@contextmanager
def scheduler_refusals(program: str, what: str) -> Iterator[None]:
    """Report the errors of the scheduler in its own words."""
    try:
        yield
    except InvalidRequestError as error:
        if error.details:
            text = "\n".join(error.details).replace("Batch job submission failed", what)
            # sbatch exits with 255 if it cannot parse its own options.
            unread = re.search(r"Invalid --\S+ specification|Maximum node count", text)
            lines = [
                line if line.startswith(_BARE) else f"{program}: error: {line.removeprefix('sbatch: error: ')}"
                for line in text.split("\n")
            ]
            raise CommandError(*lines, code=255 if unread else 1) from None
        message = error.message.removeprefix("Slurm refused the job: ")
        raise CommandError(f"{program}: error: {what}: {message} {error.hint}".rstrip()) from None


def unknown_option(program: str, word: str) -> CommandError:
    """Return the error of getopt_long(3) for an unknown option."""
    what = f"invalid option -- '{word[1]}'" if not word.startswith("--") else f"unrecognized option '{word}'"
    return CommandError(f"{program}: {what}", f'Try "{program} --help" for more information', code=255)


def _arguments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    try:
        parsed, rest = parse_arguments(words)
    except InvalidRequestError:  # only the last word can lack a value
        word = words[-1]
        what = f"option '{word}' requires an argument" if word.startswith("--") else "option requires an argument"
        more = "" if word.startswith("--") else f" -- '{word[-1]}'"
        raise CommandError(
            f"{_PROGRAM}: {what}{more}", f'Try "{_PROGRAM} --help" for more information', code=255
        ) from None
    if parsed.unknown:
        raise unknown_option(_PROGRAM, parsed.unknown[0])
    return read_environment(_VARIABLES) | parsed.options, rest


def _script(given: dict[str, str], rest: list[str]) -> str:
    """Return the text of the script from `--wrap`, a file on this machine, or standard input."""
    if "wrap" in given:
        if rest:
            raise CommandError(f"{_PROGRAM}: error: Script arguments not permitted with --wrap option")
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{given['wrap']}\n"
    if rest:
        try:
            text = Path(rest[0]).read_text(encoding="utf-8-sig")
        except OSError:
            raise CommandError(f"{_PROGRAM}: error: Unable to open file {rest[0]}") from None
        except UnicodeDecodeError:
            raise CommandError(
                f"{_PROGRAM}: error: {rest[0]} is not UTF-8, and the API carries no other encoding.",
                f"{_PROGRAM}: error: Convert it, for example: iconv -f ISO-8859-1 -t UTF-8 {rest[0]}",
            ) from None
    else:
        text = sys.stdin.read()
    if not text.strip():
        raise CommandError(f"{_PROGRAM}: error: Batch script is empty!")
    if not text.startswith("#!"):
        raise CommandError(
            f"{_PROGRAM}: error: This does not look like a batch script.  The first",
            f"{_PROGRAM}: error: line must start with #! followed by the path to an interpreter.",
            f"{_PROGRAM}: error: For instance: #!/bin/sh",
        )
    if "\r\n" in text:
        raise CommandError(
            f"{_PROGRAM}: error: Batch script contains DOS line breaks (\\r\\n)",
            f"{_PROGRAM}: error: instead of expected UNIX line breaks (\\n).",
        )
    return text


def _spec(given: dict[str, str], written: dict[str, str], script: str, rest: list[str]) -> JobSpec:
    name = given.get("job-name") or written.get("job-name")
    if name is None:
        name = "wrap" if "wrap" in given else Path(rest[0]).name if rest else "sbatch"
    options = {key: value for key, value in given.items() if key not in _OURS | FIELDS.keys() | _UNSERVED.keys()}
    fields = {field: given[option] for option, field in FIELDS.items() if option in given}
    return JobSpec(
        **(fields | {"name": name}),  # type: ignore[arg-type]
        script=_with_arguments(script, rest[1:]),
        directives=tuple(f"--{key}={shlex.quote(value)}" if value else f"--{key}" for key, value in options.items()),
        environment=environment_of(given.get("export", written.get("export", ""))),
    )


def _with_arguments(script: str, arguments: list[str]) -> str:
    """Insert a `set --` line before the script's first command, since the API does not support script arguments."""
    if not arguments:
        return script
    lines = script.split("\n")
    if not re.search(r"(^|/|\s)(ba|da|k|z)?sh(\s|$)", lines[0]):
        raise CommandError(
            f"{_PROGRAM}: error: Arguments can be handed to scripts of a shell only, not of {lines[0][2:]}."
        )
    place = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "\n".join([*lines[:place], f"set -- {shlex.join(arguments)}", *lines[place:]])


def environment_of(export: str) -> dict[str, str]:
    """Return the variables that `--export` names.

    `ALL`, the default, adds none: the job gets the environment of a login on the system, not that of this machine.
    """
    found = {}
    for word in filter(None, re.split(r",(?=[A-Za-z_][A-Za-z0-9_]*(?:=|,|$))", export)):
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value.strip("'\"")
        elif name not in ("ALL", "NONE", "NIL") and name in os.environ:
            found[name] = os.environ[name]
    return found


async def find_workdir(program: str, system: System, chdir: str | None) -> str:
    """Return the value of `--chdir`, the current directory if the system has it, or the user's directory there."""
    if chdir is not None:
        return await system.resolve_path(chdir)
    here = os.getcwd()
    try:
        await system.stat(here)
    # The directory does not exist there, or the user has no access.
    except (FileMissingError, InvalidRequestError, PermissionDeniedError):
        there = await system.default_workdir()
        await system.mkdir(there, parents=True)
        print(f"{program}: warning: {system.name} has no {here}; the job works in {there}", file=sys.stderr)
        return there
    return here


def _announce(job: Job, system: str, given: dict[str, str]) -> None:
    cluster = given.get("clusters")
    if "parsable" in given:
        print(f"{job.job_id};{system}" if cluster else job.job_id, flush=True)
    elif "quiet" not in given:
        print(f"Submitted batch job {job.job_id}" + (f" on cluster {system}" if cluster else ""), flush=True)
