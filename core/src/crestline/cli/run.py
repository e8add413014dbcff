"""`crestline run`: a command or a script on a system, as if it ran here."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crestline.cli.connecting import on_system
from crestline.cli.errors import UsageError, exit_code
from crestline.cli.jobs import read_script
from crestline.cli.options import Json, Site
from crestline.cli.outcome import job_exit_code
from crestline.cli.progress import progress_bar
from crestline.cli.remote import absolute
from crestline.cli.resources import takes_resources
from crestline.cli.telling import Teller
from crestline.model import CrestlineError, Job, JobSpec

if TYPE_CHECKING:
    from crestline.client import System

app = typer.Typer(rich_markup_mode=None)


@app.command(context_settings={"allow_interspersed_args": False})
@takes_resources
def run(
    resources: dict[str, Any],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND [ARGUMENT...]", help="What to run; options go before it.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="A batch script instead of a command; - for stdin.")
    ] = None,
    upload: Annotated[
        list[Path], typer.Option(metavar="PATH", help="Copy this into the working directory first; repeatable.")
    ] = [],  # noqa: B006
    collect: Annotated[
        list[str], typer.Option(metavar="GLOB", help="Fetch what matches there afterwards; repeatable.")
    ] = [],  # noqa: B006
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where to put what is fetched.")] = Path("."),
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id and leave: no log, no results, no cancelling.")
    ] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Upload, submit, follow the output live, collect results, and exit with the job's code.

    The working directory, unless --workdir names one, is a new one below crestline-runs in the user's default
    directory; it stays. Ctrl-C cancels the job. With --json every step and every piece of output is a line of JSON.
    """
    if bool(command) == bool(script):
        raise UsageError("Give either a command or --script FILE.")
    if resources["array"]:
        raise UsageError("run follows one job; submit an array with `crestline submit --array`.")
    text = read_script(script) if script else f"#!/bin/bash\n{shlex.join(command or [])}\n"
    name = resources["name"] or Path(script or (command or [""])[0]).stem
    tell = Teller(json)

    async def action(system: System) -> int:
        workdir = await _make_workdir(system, resources["workdir"])
        await _upload(system, upload, workdir, tell)
        spec = JobSpec(**{**resources, "script": text, "name": name, "workdir": workdir})
        job = await _submit(system, spec)
        tell.submitted(job, workdir)
        if detach:
            return 0
        job = await _attend(system, job, tell)
        code = await _collect(system, [f"{workdir}/{each}" for each in collect], output_dir, job, tell)
        tell.ended(job, code)
        return code

    raise typer.Exit(on_system(site, action))


async def _make_workdir(system: System, workdir: str) -> str:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    path = await absolute(system, workdir or f"crestline-runs/{name}")
    await system.mkdir(path, parents=True)
    return path


async def _upload(system: System, sources: list[Path], workdir: str, tell: Teller) -> None:
    for source in sources:
        target = f"{workdir}/{source.resolve().name}" if source.is_dir() else f"{workdir}/"
        with progress_bar() as progress:
            report = await system.upload(source, target, progress=progress)
        tell.uploaded(source, report)


async def _submit(system: System, spec: JobSpec) -> Job:
    """Submit; an interruption is served once it is known which job to cancel."""
    submission = asyncio.ensure_future(system.submit(spec))
    try:
        return await asyncio.shield(submission)
    except asyncio.CancelledError:
        await system.cancel(await submission)
        raise


async def _attend(system: System, job: Job, tell: Teller) -> Job:
    """Follow the job's output to its end; returns the job as it ended."""
    from crestline.cli.following import follow_job

    try:
        return await follow_job(system, job, tell)
    except asyncio.CancelledError:
        await system.cancel(job)
        tell.cancelled(job)
        raise


async def _collect(system: System, patterns: list[str], output_dir: Path, job: Job, tell: Teller) -> int:
    """Fetch the results; the exit code is the job's, or that of the first failure here where the job succeeded."""
    code = job_exit_code(job)
    for pattern in patterns:
        try:
            with progress_bar() as progress:
                report = await system.download(pattern, f"{output_dir}{os.sep}", progress=progress)
        except CrestlineError as error:
            tell.not_collected(pattern, error)
            code = code or exit_code(error)
        else:
            tell.collected(pattern, report)
    return code
