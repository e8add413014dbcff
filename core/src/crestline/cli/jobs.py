"""`crestline submit`, `ps`, `wait`, `logs` and `cancel`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crestline.cli.completion import complete_jobs
from crestline.cli.connecting import on_site_for, on_system
from crestline.cli.durations import clock, seconds, when
from crestline.cli.errors import UsageError
from crestline.cli.help import make_app
from crestline.cli.options import Json, Site
from crestline.cli.outcome import describe_end, job_exit_code
from crestline.cli.output import note, one_line, print_json, print_table, write
from crestline.cli.recent_jobs import as_submitted, note_job, recent_ids
from crestline.cli.remote import check_known, is_missing, naming_missing_directory, output_files, read_file
from crestline.cli.resources import resource_options
from crestline.cli.run_keys import find_job
from crestline.cli.several import Several
from crestline.concurrency import map_concurrently
from crestline.model import (
    CrestlineError,
    FileMissingError,
    InvalidRequestError,
    Job,
    JobNotFoundError,
    JobSpec,
    NotFoundError,
    endings,
)
from crestline.model.directories import missing_directory

if TYPE_CHECKING:
    from crestline.client import System

app = make_app()

_HOUR = 3600
_WEEK = 7 * 86400
_AT_ONCE = 4
_LOOKUPS = 100
"""Maximum number of jobs that `ps` looks up one by one."""

JobIds = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.", autocompletion=complete_jobs)]


@app.command()
@resource_options
def submit(
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="A batch script of this machine; - for stdin.")],
    resources: dict[str, Any],
    remote: Annotated[bool, typer.Option("--remote", help="SCRIPT is an absolute path on the system.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Name of this submission; the same key returns the existing job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and exit with its code.")] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Submit a batch script and print the job's id."""
    text = None if remote else read_script(script)
    spec = JobSpec(script=text, script_path=script if remote else None, **resources)

    async def action(system: System) -> Job:
        job = await system.submit(spec, key=key)
        note_job(system, job.job_id)
        if json and not wait:
            print_json({"job_id": job.job_id, "site": system.target})
        elif not json:
            print(one_line(job.job_id), flush=True)
        return await system.wait(job) if wait else job

    job = on_site_for(spec, site, action, key=key)
    if wait:
        _print_end(job, json)
        raise typer.Exit(job_exit_code(job))


@app.command()
def ps(
    all_users: Annotated[bool, typer.Option("--all-users", help="Jobs of all users.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Only jobs with this name.")] = None,
    account: Annotated[str | None, typer.Option("--account", "-A", help="Only jobs of this account.")] = None,
    window: Annotated[
        str | None, typer.Option("--window", metavar="TIME", help="Only jobs of this last period: 90m, 8h, 3d.")
    ] = None,
    site: Site = None,
    json: Json = False,
) -> None:
    """List jobs."""
    span = seconds(window) if window else None
    if span is not None and span > _WEEK:
        raise UsageError(f"--window {window} is too long: gateways list the jobs of the last 7d at most.")
    failure: CrestlineError | None = None

    async def action(system: System) -> list[Job]:
        nonlocal failure
        try:
            return await system.jobs(name=name, account=account, all_users=all_users, window=span)
        except CrestlineError as error:
            if not _is_of_list(system, error):
                raise
            failure = error
            error.hint = error.hint or "The list is too long: try --window 1h."
            found = await _jobs_without_list(system, account=account, all_users=all_users, window=span or 86400)
            return [job for job in found if name in (None, job.name) and account in (None, job.account)]

    jobs = on_system(site, action, retry=False)
    if span is not None:  # gateways support only some windows and round up to the next one
        begin = time.time() - span
        jobs = [job for job in jobs if job.times.end is None or job.times.end >= begin]
    if json:
        print_json(jobs)
    else:
        _print_jobs(jobs, all_users=all_users)
    if failure is not None:
        note("These are not all jobs: the list cannot be had.")
        raise failure


def _is_of_list(system: System, error: CrestlineError) -> bool:
    """Whether a plain FirecREST fails to list jobs, because the list is too long or a job's name breaks its output."""
    from crestline.client.backends.messages import NotSentError

    is_plain = not system.capabilities
    return is_plain and error.status in (408, 413, 500) and not isinstance(error, (NotFoundError, NotSentError))


async def _jobs_without_list(system: System, *, account: str | None, all_users: bool, window: int) -> list[Job]:
    """Return the jobs of the last hour, if they can be listed, and those submitted from this machine."""
    found: dict[str, Job] = {}
    if window > _HOUR:
        with contextlib.suppress(CrestlineError):
            for job in await system.jobs(account=account, all_users=all_users, window=_HOUR):
                found[job.job_id] = job

    async def look(job_id: str) -> None:
        with contextlib.suppress(CrestlineError):
            found[job_id] = await system.job(job_id)

    ids = [job_id for job_id in recent_ids(system, window) if job_id not in found]
    await map_concurrently(look, ids[:_LOOKUPS], _AT_ONCE)
    return sorted(found.values(), key=lambda job: (len(job.job_id), job.job_id))


def _print_jobs(jobs: list[Job], *, all_users: bool) -> None:
    user = ["USER"] if all_users else []
    heads = ["JOB", "NAME", *user, "STATE", "PARTITION", "SUBMITTED", "ELAPSED", "LIMIT", "NODES", "REASON"]
    rows = [
        [
            job.job_id,
            job.name,
            *([job.user] if user else []),
            job.state,
            job.partition,
            when(job.times.submit)[:16],
            clock(job.times.elapsed),
            clock(job.times.limit),
            job.nodes or job.node_count,
            "" if job.reason == "None" else job.reason,
        ]
        for job in jobs
    ]
    print_table(heads, rows, right=("ELAPSED", "LIMIT"))


@app.command()
def wait(
    jobs: JobIds,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Give up after this time (exit code 75); the jobs continue.")
    ] = None,
    site: Site = None,
    json: Json = False,
) -> None:
    """Wait until jobs have ended; exit with the first non-zero exit code, in the order given."""
    limit = seconds(timeout) if timeout else None

    async def action(system: System) -> list[Job]:
        ended = await _wait_for_all(system, jobs, limit)
        for job in ended:
            _print_end(job, json)
        return ended

    codes = [job_exit_code(job) for job in on_system(site, action)]
    raise typer.Exit(next((code for code in codes if code), 0))


@app.command()
def logs(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="Job id; 12_3 for element 3 of array 12.", autocompletion=complete_jobs),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the job has ended.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Print standard error instead.")] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Print a job's output; with --json, JSON lines with pieces of its text."""

    async def action(system: System) -> None:
        await check_known(system, job)
        paths = await output_files(system, job, stderr=stderr)
        if follow and len(paths) > 1:
            raise InvalidRequestError(
                f"Job {job} is an array of {len(paths)} jobs.", hint=f"Follow one of them, such as {job}_0."
            )
        shown = False
        try:
            for path in paths:
                async for piece in system.follow(path, job=job) if follow else read_file(system, path):
                    shown = True
                    if json:
                        text = piece if isinstance(piece, str) else piece.decode(errors="replace")
                        print_json({"job_id": job, "path": path, "text": text})
                    else:
                        write(piece)
        # The gateway does not serve the path of its output, or the file does not exist.
        except (InvalidRequestError, FileMissingError):
            await _check_started(system, job)
            async with naming_missing_directory(system, paths[0]):
                raise
        if not shown:
            await _check_started(system, job)

    on_system(site, action)


async def _check_started(system: System, job_id: str) -> None:
    """Raise if a job has no output because it could not be started.

    Raises:
        FileMissingError: the job could not be started.
    """
    job = await system.job(job_id)
    if endings.launch_failed(job):
        message, hint = f"{describe_end(job)}. It has no output.", endings.end_hint(job)
        if job.workdir and await is_missing(system, job.workdir):
            missing, hint = missing_directory(job.workdir)
            message = f"{message} {missing}"
        raise FileMissingError(message, hint=hint)


@app.command()
def cancel(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB...]", help="Job ids.", autocompletion=complete_jobs)
    ] = None,
    key: Annotated[str | None, typer.Option(help="The job of `crestline run --key KEY` instead.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Succeed if the job does not exist.")] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Cancel jobs; jobs that have already ended are ignored."""
    if bool(jobs) == bool(key):
        raise UsageError("Give either jobs or --key KEY.")

    async def action(system: System) -> list[str]:
        try:
            wanted = [await find_job(system, key)] if key else list(jobs or ())
        except JobNotFoundError:
            if not quiet:
                raise
            return []
        cancelled = []
        several = Several(wanted, json=json)
        for job in wanted:
            with several.one(job):
                try:
                    await system.cancel(job)
                    cancelled.append(job)
                except JobNotFoundError:
                    if not quiet:
                        raise
        several.raise_any()
        return cancelled

    cancelled = on_system(site, action)
    if json:
        print_json({"cancelled": cancelled})


def read_script(name: str) -> str:
    """Return the text of a script on this machine, or of standard input for `-`.

    Raises:
        OSError: the script cannot be read.
        InvalidRequestError: the script is not UTF-8, the only encoding that JSON supports.
    """
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        shown = "The script on stdin" if name == "-" else name
        raise InvalidRequestError(
            f"{shown} is not UTF-8 (byte {error.start + 1}), and the API carries no other encoding.",
            hint="Convert it first, such as by `iconv -f ISO-8859-1 -t UTF-8`.",
        ) from None


async def _wait_for_all(system: System, jobs: list[str], limit: int | None) -> list[Job]:
    for job in jobs:
        await check_known(system, job)
    return await asyncio.gather(*(system.wait(as_submitted(system, job), timeout=limit) for job in jobs))


def _print_end(job: Job, json: bool) -> None:
    if json:
        print_json(job)
    else:
        note(describe_end(job))
