"""What Crestline says of a directory that a command or a job needs and that does not exist."""

from __future__ import annotations

import shlex


def missing_directory(path: str, *, here: bool = False) -> tuple[str, str]:
    """Message and hint of the error, the same wherever it is noticed.

    Args:
        path: absolute path of the directory.
        here: whether it is missing on this machine, not on the system.
    """
    where, command = ("this machine", "mkdir") if here else ("the system", "crestline mkdir")
    hint = f"Make it with `{command} -p {shlex.quote(path)}`, or name another directory."
    return f"The directory {path} does not exist on {where}.", hint
