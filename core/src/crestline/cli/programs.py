"""Which commands there are: those of this package, and those that other distributions add through entry points.

An entry point of the group names a `typer.Typer`, or a function that takes the arguments and returns the exit code. The
function is called before typer is even imported: for programs that another one starts ten times a minute.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
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
    "run": "run",
    "submit": "jobs",
    "ps": "jobs",
    "wait": "jobs",
    "logs": "jobs",
    "cancel": "jobs",
    "ls": "files",
    "cat": "files",
    "cp": "files",
    "keys": "keys",
    "doctor": "doctor",
    "clients": "clients",
    "audit": "audit",
    "slurm-commands": "slurm.links",
}

Program = Callable[[list[str]], int]


def installed() -> EntryPoints:
    """What other distributions add."""
    from importlib.metadata import entry_points  # takes as long as all the rest of this module

    return entry_points(group=ENTRY_POINTS)


def find_program(name: str) -> Program | None:
    """The function that another distribution adds under this name, if it is one and can be loaded."""
    if name in BUILT_IN or name.startswith("-"):
        return None
    try:
        loaded = _load_own(name) or next((entry.load() for entry in installed().select(name=name)), None)
    except Exception:  # `app` loads it once more, and says what is wrong
        return None
    return loaded if isinstance(loaded, types.FunctionType) else None


def _load_own(name: str) -> object:
    """What one of Crestline's own distributions adds, without the tenth of a second that importlib.metadata takes."""
    for folder in sys.path:
        for file in Path(folder).glob("crestline_*.dist-info/entry_points.txt"):
            _, _, group = file.read_text(encoding="utf-8").partition(f"[{ENTRY_POINTS}]\n")
            for line in group.partition("\n[")[0].splitlines():
                command, _, place = line.partition(" = ")
                if command == name:
                    module, _, attribute = place.partition(":")
                    return getattr(import_module(module), attribute)
    return None
