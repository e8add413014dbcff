"""Scripts of jobs as files of this machine, and their maximum size."""

from __future__ import annotations

import os
import stat

from crestline.model import InvalidRequestError

MAX_SCRIPT = 4 * 1024 * 1024
"""Maximum size in bytes of a script, as Slurm's own limit."""


def check_script_size(size: int) -> None:
    """Refuse a script that is too long.

    Raises:
        InvalidRequestError: the script has more than `MAX_SCRIPT` bytes.
    """
    if size > MAX_SCRIPT:
        raise InvalidRequestError(
            f"The script has more than {MAX_SCRIPT} bytes.", hint="Move data out of it, into files."
        )


def read_script(path: str) -> bytes:
    """Return the content of a script. Reads a file, so call it in a thread.

    Raises:
        InvalidRequestError: the file cannot be read, is too large, or is not a regular file, which may block or be
            endless.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidRequestError(f"The script {path!r} is not a regular file.", hint="Name a text file.")
            script = file.read(MAX_SCRIPT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(
            f"The script {path!r} cannot be read: {reason}.", hint="Name a readable file."
        ) from error
    check_script_size(len(script))
    return script
