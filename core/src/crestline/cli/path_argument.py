"""Path arguments of commands, on this machine or on a system."""

from __future__ import annotations

import re
from typing import NamedTuple

_REMOTE = re.compile(r"(?P<site>[^/:@]+@[^/:@]+)?:(?P<path>.*)", re.DOTALL)


class RemotePath(NamedTuple):
    """A path on this machine or on a system."""

    path: str
    remote: bool
    site: str | None
    """The value for `--site`. None selects the default system, or this machine."""


def parse_remote_path(text: str, site: str | None, *, remote: bool = False) -> RemotePath:
    """Parse `:PATH` and `SYSTEM@SITE:PATH` as paths on a system. `remote` decides where other paths are.

    Local files with a colon in their name can be written as `./:name`.
    """
    if match := _REMOTE.fullmatch(text):
        return RemotePath(match["path"], True, match["site"] or site)
    return RemotePath(text, remote, site if remote else None)
