"""Paths on the command line: on this machine, or on a system."""

from __future__ import annotations

import re
from typing import NamedTuple

_REMOTE = re.compile(r"(?P<site>[^/:@]+@[^/:@]+)?:(?P<path>.*)", re.DOTALL)


class Place(NamedTuple):
    """A path, and where it is."""

    path: str
    remote: bool
    site: str | None
    """what `--site` would say; None: the default, or this machine"""


def parse_place(text: str, site: str | None, *, remote: bool = False) -> Place:
    """`:PATH` and `SYSTEM@SITE:PATH` are on a system; everything else is where `remote` says.

    A local file with such a name is written `./:name`.
    """
    if match := _REMOTE.fullmatch(text):
        return Place(match["path"], True, match["site"] or site)
    return Place(text, remote, site if remote else None)
