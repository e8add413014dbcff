"""`crestline doctor`: check the connection to a system, and print what fails and how to fix it."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from crestline.cli.checks import Check, Verdict
from crestline.cli.connecting import run_async
from crestline.cli.help import make_app
from crestline.cli.options import Json, Site
from crestline.cli.output import one_line, print_json

app = make_app()

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check this configuration of a gateway instead.")
    ] = None,
    site: Site = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --config: the user to test logins with.")
    ] = None,
    json: Json = False,
) -> None:
    """Check the connection to a system step by step; exit with 1 if something fails."""
    if config is not None:
        logging.getLogger("crestline").setLevel(logging.CRITICAL)  # the checks report every failure themselves
        from crestline.cli.checks.gateway import check_gateway

        checks = check_gateway(config, user)
    else:
        from crestline.cli.checks.connection import check_connection

        checks = check_connection(site)
    if not run_async(_print_all(checks, json)):
        raise typer.Exit(1)


async def _print_all(checks: AsyncIterator[Check], json: bool) -> bool:
    """Print checks as they complete, as one JSON object per line with `json`. Returns whether none failed."""
    sound = True
    async for check in checks:
        sound &= check.verdict is not Verdict.FAIL
        if json:
            print_json(check)
            continue
        word = f"{check.verdict:4}"
        if sys.stdout.isatty():
            word = typer.style(word, fg=_COLOURS[check.verdict], bold=True)
        print(f"{word}  {one_line(f'{check.name}: {check.message} {check.hint}'.rstrip())}", flush=True)
    return sound
