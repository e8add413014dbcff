"""The error message about a directory that a command or a job needs and that does not exist."""

from __future__ import annotations

import shlex


def missing_directory(path: str, *, here: bool = False) -> tuple[str, str]:
    """Return the message and the hint of the error, for all parts that detect it.

    Args:
        path: absolute path of the directory.
        here: True if the directory is missing on this machine, False if on the system.
    """
    where, command = ("this machine", "mkdir") if here else ("the system", "crestline mkdir")
    hint = f"Make it with `{command} -p {shlex.quote(path)}`, or name another directory."
    return f"The directory {path} does not exist on {where}.", hint
