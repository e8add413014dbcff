"""Which commands there are: those of this package, and those that other distributions add through entry points.

An entry point of the group names a `typer.Typer`, or a function that takes the arguments and returns the exit code. The
function is called before typer is even imported: for programs that another one starts ten times a minute.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

ENTRY_POINTS = "crestline.commands"
"""the group; an entry point's name is the command's"""

# Command -> module of this package with an `app` that has it, in the order of `crestline --help`.
BUILT_IN = {
    "serve": "serve",
    "relay": "relay",
    "env": "env",
    "systems": "systems",
    "allocations": "allocations",
    "run": "run",
    "submit": "jobs",
    "ps": "jobs",
    "wait": "jobs",
    "logs": "jobs",
    "cancel": "jobs",
    "ls": "files",
    "cat": "files",
    "tail": "files",
    "cp": "files",
    "mv": "files",
    "rm": "files",
    "mkdir": "files",
    "keys": "keys",
    "doctor": "doctor",
    "clients": "clients",
    "audit": "audit",
    "database": "database",
}

Program = Callable[[list[str]], int]


def installed() -> EntryPoints:
    """Return the entry points of commands that other distributions add."""
    from importlib.metadata import entry_points  # takes as long as all the rest of this module

    return entry_points(group=ENTRY_POINTS)


def find_program(name: str) -> Program | None:
    """The function that another distribution adds under this name, if it is one and can be loaded."""
    if name in BUILT_IN or name.startswith("-"):
        return None
    for entry in installed().select(name=name):
        try:
            loaded = entry.load()
        except Exception:  # `app` loads it once more, and says what is wrong
            return None
        if isinstance(loaded, types.FunctionType):
            return loaded
    return None
