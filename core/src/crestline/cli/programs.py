"""The list of commands: built-in ones, and those that other distributions add through entry points.

An entry point of the group refers to a `typer.Typer`, or to a function that takes the arguments and returns the exit
code. Functions run without importing typer, which matters for commands that tools run several times a minute.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

ENTRY_POINTS = "crestline.commands"
"""Entry point group of commands. The name of an entry point is the name of its command."""


class BuiltIn(NamedTuple):
    """A built-in command."""

    module: str
    """Name of a module in `crestline.cli` with an `app` that contains the command."""
    summary: str
    """First sentence of the command's help, so that the list of commands does not import its module."""


BUILT_IN = {
    "serve": BuiltIn("serve", "Serve the FirecREST v2 API for this machine or the configured systems, until Ctrl-C."),
    "relay": BuiltIn(
        "relay",
        "Serve the relay: jobs dial in at /relay/agents, hubs' proxies reach them through the configured ingresses.",
    ),
    "env": BuiltIn(
        "env", 'Print shell exports that connect programs to the gateway of this machine: eval "$(crestline env)".'
    ),
    "systems": BuiltIn("systems", "List the systems of all configured sites, or of one, with their health."),
    "allocations": BuiltIn(
        "allocations", "Show the budget of your accounts on a system, how much is used, and how much is left."
    ),
    "run": BuiltIn(
        "run", "Upload files, submit a job, follow its output, collect results, and exit with the job's code."
    ),
    "submit": BuiltIn("jobs", "Submit a batch script and print the job's id."),
    "ps": BuiltIn("jobs", "List jobs."),
    "job": BuiltIn("job", "Show jobs, and how much of their processor time, memory and GPUs they use."),
    "wait": BuiltIn("jobs", "Wait until jobs have ended; exit with the first non-zero exit code, in the order given."),
    "logs": BuiltIn("jobs", "Print a job's output; with --json, JSON lines with pieces of its text."),
    "cancel": BuiltIn("jobs", "Cancel jobs; jobs that have already ended are ignored."),
    "ls": BuiltIn("files", "List a directory of the system."),
    "cat": BuiltIn("files", "Print files of the system, byte for byte; with --json as text."),
    "tail": BuiltIn("files", "Print the end of a text file of the system."),
    "cp": BuiltIn("files", "Copy files to or from the system; repeat the command to resume after an interruption."),
    "mv": BuiltIn("files", "Move or rename files within the system; into TARGET if that is a directory."),
    "rm": BuiltIn("files", "Remove files of the system."),
    "mkdir": BuiltIn("files", "Make directories on the system."),
    "keys": BuiltIn(
        "keys",
        "Create, list and revoke API keys: yours, or any user's by --user, --state-dir or --config on the gateway's"
        " host.",
    ),
    "doctor": BuiltIn("doctor", "Check the connection to a system step by step; exit with 1 if something fails."),
    "clients": BuiltIn(
        "clients",
        "Add, list and remove OAuth2 clients of a gateway of this machine, whether it is being served or not.",
    ),
    "audit": BuiltIn("audit", "Print the audit trail, the oldest record first; with --json one record per line."),
    "database": BuiltIn("database", "Downgrade the schema of a gateway's database to that of an earlier version."),
}
"""Built-in commands in the order of `crestline --help`."""

Program = Callable[[list[str]], int]


@cache
def installed() -> EntryPoints:
    """Return the entry points of commands that other distributions add."""
    from importlib.metadata import entry_points  # takes as long as the rest of this module

    return entry_points(group=ENTRY_POINTS)


def find_program(name: str) -> Program | None:
    """Return the function that another distribution adds under this name, or None. Load errors are ignored."""
    if name in BUILT_IN or name.startswith("-"):
        return None
    for entry in installed().select(name=name):
        try:
            loaded = entry.load()
        except Exception:  # `app` loads it again and reports the error
            return None
        if isinstance(loaded, types.FunctionType):
            return loaded
    return None
