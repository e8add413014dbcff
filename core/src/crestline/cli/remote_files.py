"""Paths and parts of files on a system, for `crestline mcp`, `crestline page` and the file commands."""

from __future__ import annotations

import posixpath

from crestline.client import System
from crestline.model import CrestlineError, InvalidRequestError, PermissionDeniedError


async def resolve(system: System, path: str) -> str:
    """Return the absolute path, without `.` and repeated slashes.

    Raises:
        InvalidRequestError: the path contains `..`, which leads elsewhere after a symbolic link.
    """
    if ".." in path.split("/"):
        raise InvalidRequestError(f"{path!r} contains `..`.", hint="Name the path without it.")
    return posixpath.normpath(await system.resolve_path(path)).replace("//", "/")


async def check_deletable(system: System, path: str) -> None:
    """Refuse to delete a file system, or a directory with all files of the user, under any of its names.

    Raises:
        PermissionDeniedError: the path is, or contains, the user's default directory or the root of a file system.
    """
    served = [place.get("path") or "/" for place in (await system.describe()).get("fileSystems") or []]
    found = await _identity(system, path)
    for kept in (await system.default_workdir(), *served):
        is_below = f"{kept.rstrip('/')}/".startswith(f"{path.rstrip('/')}/")
        if is_below or (found and found in [await _identity(system, each) for each in _and_above(kept)]):
            raise PermissionDeniedError(f"{path} holds all files of {kept}.", hint="Name what is inside it.")


def _and_above(path: str) -> list[str]:
    """Return the path and its parent directories, except the root directory, which has no other name."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]


async def _identity(system: System, path: str) -> tuple[int, int] | None:
    """Return device and inode, which identify a file under any link, or None if the system does not report them."""
    try:
        numbers = await system.stat(path)
    except CrestlineError:
        return None
    return (numbers.get("dev", 0), numbers["ino"]) if numbers.get("ino") else None


async def read_part(system: System, path: str, start: int, length: int, size: int) -> bytes:
    """Read a part of a file.

    For large files, plain FirecREST serves windows of the file, which count characters as bytes.
    """
    if system.supports_ranges:
        return await system.read_range(path, start, length)
    files, most = system.backend.files, system.backend.max_direct_download
    if size <= most:
        return (await files.download_small(path))[start : start + length]
    window = most // 2
    first = start // window * window
    text = await files.view(path, first, window)
    if start + length > first + window:
        text += await files.view(path, first + window, window)
    return text.encode()[start - first :][:length]
