"""`crestline-srun` runs a command as a job. `crestline-salloc` reports that the API does not support allocations."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.follow import follow_job
from crestline.cli.run_reporter import RunReporter
from crestline.cli.slurm.clusters import find_cluster
from crestline.cli.slurm.program import CommandError, on_system, read_environment, run
from crestline.cli.slurm.sbatch import (
    FIELDS,
    environment_of,
    find_workdir,
    refuse,
    scheduler_refusals,
    unknown_option,
)
from crestline.model import FileMissingError, InvalidRequestError, Job, JobSpec
from crestline.model.sbatch import Grammar, parse_arguments

if TYPE_CHECKING:
    from crestline.client import JobEvent, System

_PROGRAM = "srun"
_STEP = Grammar(
    value="cpu-bind, epilog, het-group, jobid, kill-on-bad-exit K, mpi, msg-timeout, prolog, relative r, slurmd-debug,"
    "task-epilog, task-prolog, threads T, treewidth",
    optional="immediate I",
    flag="disable-status X, exact, interactive, label l, multi-prog, no-allocate Z, overlap, preserve-env E, pty,"
    "quit-on-interrupt, unbuffered u, wait-all",
)
"""Options that only srun has. They are passed to the system's own srun inside the job."""
_HERE = frozenset({"chdir", "clusters", "export", "input", "output", "error", "quiet", "verbose", "wait", "unbuffered"})
_UNSERVED = {
    "input": "a job reads no input of this machine; let the command read a file there",
    "jobid": "commands reach a running job from inside of it only",
    "multi-prog": "the configuration file would have to lie on the system; call srun in a script",
    "no-allocate": "every command is a job",
    "pty": "the API carries no terminal",
    "test-only": "the API submits, or does not",
}
_VARIABLES = {
    "SLURM_ACCOUNT": "account", "SLURM_CLUSTERS": "clusters", "SLURM_CONSTRAINT": "constraint",
    "SLURM_CPUS_PER_TASK": "cpus-per-task", "SLURM_EXPORT_ENV": "export", "SLURM_GPUS": "gpus",
    "SLURM_GRES": "gres", "SLURM_JOB_NAME": "job-name", "SLURM_JOB_NUM_NODES": "nodes",
    "SLURM_MEM_PER_CPU": "mem-per-cpu", "SLURM_MEM_PER_NODE": "mem", "SLURM_NTASKS": "ntasks",
    "SLURM_PARTITION": "partition", "SLURM_QOS": "qos", "SLURM_RESERVATION": "reservation",
    "SLURM_TIMELIMIT": "time",
}  # fmt: skip


def main() -> None:
    """Console script `crestline-srun`."""
    run(_PROGRAM, srun)


def salloc_main() -> None:
    """Console script `crestline-salloc`."""
    run("salloc", salloc)


def salloc(words: list[str]) -> int:
    """Fail with a hint to use srun or sbatch."""
    raise CommandError(
        "salloc: error: The API starts jobs, and hands out no allocation in which commands of this machine could run.",
        "salloc: error: Run one command with srun, several in a script with sbatch.",
    )


def srun(words: list[str]) -> int:
    """Run the command as a job, print its output, and return its exit code."""
    if "SLURM_JOB_ID" in os.environ:
        return _of_the_node(words)
    try:
        parsed, command = parse_arguments(words, _STEP)
    except InvalidRequestError as error:
        raise CommandError(f"{_PROGRAM}: error: {error}", code=255) from None
    if parsed.unknown:
        raise unknown_option(_PROGRAM, parsed.unknown[0])
    if not command:
        raise CommandError(f"{_PROGRAM}: fatal: No command given to execute.")
    given = read_environment(_VARIABLES) | parsed.options
    refuse(_PROGRAM, given, _UNSERVED)
    target, system = find_cluster(_PROGRAM, given.get("clusters"))
    spec = _spec(given, command)
    shows = "output" not in given

    async def execute(there: System) -> Job:
        workdir = await find_workdir(_PROGRAM, there, given.get("chdir"))
        job = await there.submit(msgspec.structs.replace(spec, workdir=workdir))
        try:
            return await follow_job(there, job, _Terminal(shows=shows))
        except BaseException:
            await there.cancel(job)
            raise
        finally:
            if shows:
                await _remove_output(there, workdir, job.job_id)

    with scheduler_refusals(_PROGRAM, "Unable to allocate resources"):
        job = on_system(target, system, execute)
    if not job.state.is_success:
        code = job.exit_code or (128 + job.signal if job.signal else 1)
        print(
            f"{_PROGRAM}: error: job {job.job_id}: {job.raw_state or job.state} with exit code {code}", file=sys.stderr
        )
        return code
    return 0


class _Terminal(RunReporter):
    """Prints only the output of the job."""

    def __init__(self, *, shows: bool) -> None:
        super().__init__(json=False)
        self._shows = shows

    def state(self, event: JobEvent) -> None:
        """Ignore states."""

    def output(self, stream: str, text: str) -> None:
        """Print a chunk of output, unless it goes to a file."""
        if self._shows:
            super().output(stream, text)


async def _remove_output(there: System, workdir: str, job_id: str) -> None:
    for kind in ("out", "err"):
        with suppress(FileMissingError):
            await there.remove(f"{workdir}/.srun-{job_id}.{kind}")


def _of_the_node(words: list[str]) -> int:
    """Run the node's own srun. Inside a job, commands are steps of that job."""
    own = Path(sys.argv[0]).resolve()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(_PROGRAM, path=folder)
        if found and Path(found).resolve() != own:
            sys.stdout.flush()
            os.execv(found, [found, *words])  # noqa: S606
    raise CommandError(
        f"{_PROGRAM}: error: The node's own srun starts steps of job {os.environ['SLURM_JOB_ID']}, and PATH has none."
    )


def _spec(given: dict[str, str], command: list[str]) -> JobSpec:
    steps = {key: value for key, value in given.items() if key in _STEP.kinds and key not in _HERE}
    options = {key: value for key, value in given.items() if key not in _STEP.kinds.keys() | _HERE | FIELDS.keys()}
    fields = {field: given[option] for option, field in FIELDS.items() if option in given}
    words = shlex.join(f"--{key}={value}" if value else f"--{key}" for key, value in steps.items())
    script = (
        "#!/bin/sh\n"
        f"set -- {shlex.join(command)}\n"
        f'if command -v srun >/dev/null; then exec srun {words} "$@"; fi\n'
        'exec "$@"\n'
    )
    return JobSpec(
        **({"name": Path(command[0]).name, "stdout": ".srun-%j.out", "stderr": ".srun-%j.err"} | fields),  # type: ignore[arg-type]
        script=script,
        directives=tuple(f"--{key}={shlex.quote(value)}" if value else f"--{key}" for key, value in options.items()),
        environment=environment_of(given.get("export", "")),
    )
