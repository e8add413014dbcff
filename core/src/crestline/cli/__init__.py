"""The `crestline` command: one module per command or small family of commands.

`programs` lists the commands and `app` assembles them. `errors` maps failures to messages and exit codes, and `output`
prints results. Other distributions add commands through the entry point group `crestline.commands`. Commands import the
client and the gateway when they run, which keeps the start-up time short. `slurm/` contains replacements for Slurm's
commands.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code. This is the console script `crestline`."""
    from crestline.cli.lazy_imports import install
    from crestline.cli.programs import find_program
    from crestline.tracing import configure

    install()
    configure()
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    program = find_program(arguments[0])
    if program is not None:
        sys.exit(program(arguments[1:]))
    from crestline.cli.app import run

    sys.exit(run(arguments))
