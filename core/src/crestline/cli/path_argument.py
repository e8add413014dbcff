"""Paths on the command line: on this machine, or on a system."""

from __future__ import annotations

import re
from typing import NamedTuple

_REMOTE = re.compile(r"(?P<site>[^/:@]+@[^/:@]+)?:(?P<path>.*)", re.DOTALL)


class RemotePath(NamedTuple):
    """A path, and where it is."""

    path: str
    remote: bool
    site: str | None
    """what `--site` would say; None: the default, or this machine"""


def parse_remote_path(text: str, site: str | None, *, remote: bool = False) -> RemotePath:
    """`:PATH` and `SYSTEM@SITE:PATH` are on a system; everything else is where `remote` says.

    A local file with such a name is written `./:name`.
    """
    if match := _REMOTE.fullmatch(text):
        return RemotePath(match["path"], True, match["site"] or site)
    return RemotePath(text, remote, site if remote else None)
