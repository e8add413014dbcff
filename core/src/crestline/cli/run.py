"""`crestline run`: run a command or a script on a system as if it ran here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from crestline.cli.connecting import on_site_for
from crestline.cli.errors import UsageError
from crestline.cli.help import make_app
from crestline.cli.jobs import read_script
from crestline.cli.options import Json, Site
from crestline.cli.remote_run import RemoteRun, RunFiles
from crestline.cli.resources import resource_options
from crestline.cli.run_reporter import RunReporter
from crestline.model import JobSpec

app = make_app()


@app.command(context_settings={"allow_interspersed_args": False})
@resource_options
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
    _check(command, script, key, site, attach=attach)
    if resources["array"]:
        raise UsageError("run follows one job; submit an array with `crestline submit --array`.")
    text = read_script(script) if script else f"#!/bin/bash\n{shlex.join(command or [])}\n"
    name = resources["name"] or Path(script or (command or ["run"])[0]).stem
    asked = JobSpec(**{**resources, "script": text, "name": name})
    files = RunFiles(upload, exclude, include, collect, junit, output_dir)
    remote = RemoteRun(asked, files, key, RunReporter(json), attach=attach, detach=detach)
    raise typer.Exit(on_site_for(asked, site, remote.execute, key=f"run/{key}" if key else None))


def _check(command: list[str] | None, script: str | None, key: str | None, site: str | None, *, attach: bool) -> None:
    """Reject options that contradict each other."""
    if key == "":  # for example an unset variable: every run would be a new one, which is not what the user intends
        raise UsageError("--key is empty: name the run, or leave the option out.")
    if attach and not key:
        raise UsageError("--attach needs the --key of the run.")
    if attach and site and site.partition(":")[0] == "any":
        raise UsageError("--attach needs the --site that the run went to.")
    if not attach and bool(command) == bool(script):
        raise UsageError("Give either a command or --script FILE.")
