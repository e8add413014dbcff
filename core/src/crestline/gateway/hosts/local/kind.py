"""What kind of file it is, in the words of file(1)."""

from __future__ import annotations

import os
import stat

from crestline.gateway.hosts.local import commands
from crestline.gateway.hosts.local.beneath import ServedTrees
from crestline.gateway.hosts.local.content import open_regular
from crestline.gateway.hosts.local.workers import Workers
from crestline.gateway.paths import printable

_PROBE = 1024 * 1024
"""bytes that file(1) gets to see, as many as it looks at by itself"""
_TIMEOUT = 60  # seconds; on a busy machine even what takes milliseconds waits its turn


async def file_type(workers: Workers, trees: ServedTrees, path: str) -> str:
    """What file(1) says, or a plain word where it is not installed; a link is a link."""
    start = await workers.quick("file", _start, trees, path)
    if isinstance(start, str):
        return start
    # By its bytes and not by its name: nothing else can take the place of what was opened.
    result = await commands.run(["file", "--brief", "-"], input=start, env=None, cwd=None, timeout=_TIMEOUT)
    return _guess(start) if result.exit_status else printable(os.fsdecode(result.stdout)).strip()


def _start(trees: ServedTrees, path: str) -> bytes | str:
    """The first bytes of a file, or what anything else is."""
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
        # A character may be cut at the end of what was read.
        return "Unicode text, UTF-8 text" if error.start > _PROBE - 4 else "data"
    return "data" if b"\0" in start else "Unicode text, UTF-8 text"
