"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crestline.model import CrestlineError


class Invocation:
    """State of the running command that the error handler needs."""

    json = False


def _remember_json(context: typer.Context, value: bool) -> bool:
    context.ensure_object(Invocation).json = value
    return value


def _complete_targets(incomplete: str) -> list[str]:
    from crestline.cli.connecting import site_targets

    try:
        return [name for name in site_targets() if name.startswith(incomplete)]
    except CrestlineError:  # no completion without a valid sites file; the command itself reports the error
        return []


Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, errors included.", callback=_remember_json, is_eager=True),
]

Site = Annotated[
    str | None,
    typer.Option(
        "--site",
        "-s",
        metavar="SYSTEM@SITE",
        envvar="CRESTLINE_SITE",
        help="System and site to use; submit and run also accept `any`. Default: the FIRECREST_*"
        " variables, else the default of the sites file.",
        autocompletion=_complete_targets,
    ),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The gateway's configuration, which names its state directory."),
]

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="The gateway's state directory. Default: in the user's data folder."
    ),
]
