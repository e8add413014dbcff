"""Translates errors of the operating system, with the texts that FirecREST's clients match."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from crestline.gateway.hosts.refusals import BY_ERRNO, disk_full
from crestline.gateway.paths import printable
from crestline.model import CrestlineError, InvalidRequestError


@contextmanager
def worded(command: str) -> Iterator[None]:
    """Translate an OSError into an error of the model. All except failures of the machine itself become 4xx."""
    try:
        yield
    except OSError as error:
        raise refusal(command, error) from error


def refusal(command: str, error: OSError) -> CrestlineError:
    """Return the error for a caller: `<command>: '<path>': No such file or directory`."""
    number = error.errno or 0
    kind = BY_ERRNO.get(number, InvalidRequestError)
    reason = os.strerror(number) if number else str(error)
    name = error.filename2 or error.filename
    path = printable(os.fsdecode(name)) if isinstance(name, str | bytes) else ""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(command, path, reason)
    where = f" '{path}'" if path else ""
    doing = "statx" if command == "stat" else "access"
    return kind(f"{command}: cannot {doing}{where}: {reason}")
