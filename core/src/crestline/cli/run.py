"""`crestline run`: a command or a script on a system, as if it ran here."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crestline.cli.ci_engine import announce, conclude, count_tests
from crestline.cli.connecting import on_site_for
from crestline.cli.errors import UsageError, exit_code
from crestline.cli.help import make_app
from crestline.cli.jobs import read_script
from crestline.cli.options import Json, Site
from crestline.cli.outcome import job_exit_code
from crestline.cli.progress import progress_bar
from crestline.cli.resources import takes_resources
from crestline.cli.run_keys import (
    RunNote,
    check_same_request,
    digest_request,
    find_job,
    keyed_workdir,
    read_note,
    write_note,
)
from crestline.cli.run_reporter import RunReporter
from crestline.model import CrestlineError, Job, JobSpec

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.client.files import IgnoreRules

app = make_app()


@app.command(context_settings={"allow_interspersed_args": False})
@takes_resources
def run(
    resources: dict[str, Any],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND [ARGUMENT...]", help="Command to run; options come before it."),
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="A batch script instead of a command; - for stdin.")
    ] = None,
    upload: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="Upload this file or directory first; of `.`, its content. Repeatable.",
        ),
    ] = [],  # noqa: B006
    exclude: Annotated[
        list[str],
        typer.Option(
            metavar="PATTERN",
            help="Exclude from the upload, beside .git and what .gitignore and .crestlineignore exclude; repeatable.",
        ),
    ] = [],  # noqa: B006
    include: Annotated[
        list[str], typer.Option(metavar="PATTERN", help="Upload this even if it is excluded; repeatable.")
    ] = [],  # noqa: B006
    collect: Annotated[
        list[str],
        typer.Option(metavar="GLOB", help="Download matching files of the working directory afterwards; repeatable."),
    ] = [],  # noqa: B006
    junit: Annotated[
        list[str],
        typer.Option(metavar="GLOB", help="Like --collect, for test reports, whose results are counted; repeatable."),
    ] = [],  # noqa: B006
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Directory for downloaded files.")] = Path("."),
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            "--idempotency-key",
            help="Name of this run; the same key resumes the run instead of starting another one.",
        ),
    ] = None,
    attach: Annotated[bool, typer.Option("--attach", help="Resume the run of --key; never start one.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's ID and exit: no log, no results, no cancellation.")
    ] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Upload files, submit a job, follow its output, collect results, and exit with the job's code.

    Unless --workdir is given, the working directory is a new one below crestline-runs in the user's default
    directory. It is kept. Ctrl-C and SIGTERM cancel the job. With --json, every step and every piece of output is a
    line of JSON. In GitHub Actions, the step gets outputs and a summary.
    """
    if key == "":  # such as an unset variable's: each run would be a new one, against what the option promises
        raise UsageError("--key is empty: name the run, or leave the option out.")
    if attach and not key:
        raise UsageError("--attach needs the --key of the run.")
    if attach and site and site.partition(":")[0] == "any":
        raise UsageError("--attach needs the --site that the run went to.")
    if not attach and bool(command) == bool(script):
        raise UsageError("Give either a command or --script FILE.")
    if resources["array"]:
        raise UsageError("run follows one job; submit an array with `crestline submit --array`.")
    text = read_script(script) if script else f"#!/bin/bash\n{shlex.join(command or [])}\n"
    name = resources["name"] or Path(script or (command or ["run"])[0]).stem
    tell = RunReporter(json)

    async def action(system: System) -> int:
        from crestline.client.files import IgnoreRules

        workdir = await _workdir(system, resources["workdir"], key)
        spec = JobSpec(**{**resources, "script": text, "name": name, "workdir": workdir})
        uploads = [(each, IgnoreRules(each, exclude=exclude, include=include)) for each in upload]
        results = [Path(each).name for each in (*collect, *junit)]
        request = ""
        if key and not attach:
            request = await asyncio.to_thread(digest_request, spec, uploads, output_dir, results)
        note = await read_note(system, workdir) if key else None
        if key and note is not None and not attach:
            check_same_request(key, note, request)
        job_id = note.job_id if note is not None else None
        if attach and job_id is None:
            job_id = await find_job(system, key or "", workdir)
        if job_id is not None:
            job = await system.job(job_id)
            tell.attached(job, workdir)
        else:
            await system.mkdir(workdir, parents=True)
            if key:
                await write_note(system, workdir, RunNote(request=request))
            await _upload(system, uploads, workdir, tell)
            job = await _submit(system, spec, key, workdir, request)
            tell.submitted(job, workdir)
        announce(job, system.name)
        if detach:
            return 0
        job = await _attend(system, job, tell)
        code = await _collect(system, [f"{workdir}/{each}" for each in [*collect, *junit]], output_dir, job, tell)
        reports = [path for each in junit for path in sorted(output_dir.glob(Path(each).name))]
        conclude(job, code, count_tests(reports) if junit else None)
        tell.ended(job, code)
        return code

    asked = JobSpec(**{**resources, "script": text, "name": name})
    raise typer.Exit(on_site_for(asked, site, action, key=f"run/{key}" if key else None))


async def _workdir(system: System, workdir: str, key: str | None) -> str:
    if workdir:
        return await system.resolve_path(workdir)
    if key:
        return await keyed_workdir(system, key)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return await system.resolve_path(f"crestline-runs/{name}")


async def _upload(system: System, sources: list[tuple[Path, IgnoreRules]], workdir: str, tell: RunReporter) -> None:
    for source, ignore in sources:
        target = f"{workdir}/"
        if source.is_dir():
            target = f"{workdir}/{source.resolve().name}" if source.name else workdir
        with progress_bar() as progress:
            report = await system.upload(source, target, progress=progress, ignore=ignore)
        tell.uploaded(source, report)


async def _submit(system: System, spec: JobSpec, key: str | None, workdir: str, request: str) -> Job:
    """Submit; an interruption is served once it is known which job to cancel."""
    submission = asyncio.ensure_future(system.submit(spec, key=f"run/{key}" if key else None))
    try:
        job = await asyncio.shield(submission)
        if key:
            await write_note(system, workdir, RunNote(request=request, job_id=job.job_id))
        return job
    except asyncio.CancelledError:
        await _surely(_cancel_submitted(system, submission))
        raise


async def _cancel_submitted(system: System, submission: asyncio.Future[Job]) -> None:
    await system.cancel(await submission)


async def _attend(system: System, job: Job, tell: RunReporter) -> Job:
    """Follow the job's output to its end; returns the job as it ended."""
    from crestline.cli.follow import follow_job

    try:
        return await follow_job(system, job, tell)
    except asyncio.CancelledError:
        await _surely(system.cancel(job))
        tell.cancelled(job)
        raise


async def _surely(work: Awaitable[None]) -> None:
    """Do it to the end, whatever further signals say: CI engines send SIGINT, and soon SIGTERM."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    await task


async def _collect(system: System, patterns: list[str], output_dir: Path, job: Job, tell: RunReporter) -> int:
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
