"""The kind of a file, as file(1) describes it."""

from __future__ import annotations

import os
import stat

from crestline.gateway.hosts.local import commands
from crestline.gateway.hosts.local.beneath import ServedTrees
from crestline.gateway.hosts.local.content import open_regular
from crestline.gateway.hosts.local.workers import Workers
from crestline.gateway.paths import printable

_PROBE = 1024 * 1024
"""Bytes that file(1) receives, as many as it reads by default."""
_TIMEOUT = 60  # seconds; on a busy machine even a short program can wait long


async def file_type(workers: Workers, trees: ServedTrees, path: str) -> str:
    """Return the description of file(1), or a generic one if it is not installed. A link is described as a link."""
    start = await workers.quick("file", _start, trees, path)
    if isinstance(start, str):
        return start
    # By its bytes and not by its name, so that the description is that of the opened file.
    result = await commands.run(["file", "--brief", "-"], input=start, env=None, cwd=None, timeout=_TIMEOUT)
    return _guess(start) if result.exit_status else printable(os.fsdecode(result.stdout)).strip()


def _start(trees: ServedTrees, path: str) -> bytes | str:
    """Return the first bytes of a file, or the description of anything else."""
    with trees.locate(path) as place:
        mode = place.directory.lstat(place.name).st_mode
        if stat.S_ISDIR(mode):
            return "directory"
        if stat.S_ISLNK(mode):
            return f"symbolic link to {printable(place.directory.readlink(place.name))}"
        if not stat.S_ISREG(mode):
            return _SPECIAL.get(stat.S_IFMT(mode), "special file")
        descriptor = open_regular(place.directory, place.name)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_PROBE)


_SPECIAL = {
    stat.S_IFIFO: "fifo (named pipe)",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character special",
    stat.S_IFBLK: "block special",
}


def _guess(start: bytes) -> str:
    if not start:
        return "empty"
    if start.isascii() and b"\0" not in start:
        return "ASCII text"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # The last character may be incomplete.
        return "Unicode text, UTF-8 text" if error.start > _PROBE - 4 else "data"
    return "data" if b"\0" in start else "Unicode text, UTF-8 text"
