"""Decides which paths the file endpoints of a system serve."""

from __future__ import annotations

import os
from collections.abc import Iterable

from crestline.model import InvalidRequestError


class PathGuard:
    """The file systems of one system, as text: for any host, and without access to a file system.

    Each host decides where links of a path lead when it opens the path: this machine in `hosts.local.beneath`, a
    machine behind SSH by the user's own permissions.
    """

    def __init__(self, system: str, roots: Iterable[str]) -> None:
        self.roots = [os.path.normpath(root) for root in roots]
        self._system = system
        self._real_roots = [os.path.realpath(root) for root in self.roots]

    def check(self, path: str) -> str:
        """Return `path` normalised: absolute, `..` and `//` resolved as text, inside one of the file systems.

        Raises:
            InvalidRequestError: with FirecREST's text.
        """
        normal = os.path.normpath(path)
        if normal.startswith("//"):  # POSIX treats a leading double slash separately
            normal = normal[1:]
        if not normal.startswith("/") or not _is_encodable(normal) or "\0" in normal:
            raise self.outside(path)
        if not any(is_inside(normal, root) for root in [*self.roots, *self._real_roots]):
            raise self.outside(normal)
        return normal

    def is_protected(self, path: str) -> bool:
        """Whether a file system is at this normalised path or below it."""
        return any(is_inside(root, path) for root in [*self.roots, *self._real_roots])

    def outside(self, path: str) -> InvalidRequestError:
        """Return the error for a path outside the file systems."""
        return InvalidRequestError(
            f"The provided path ({printable(path)}) does not match any of the defined filesystem paths for the "
            f"requested system ({self._system}).",
            hint=f"Give an absolute path below one of: {', '.join(self.roots)}.",
        )


def is_inside(path: str, tree: str) -> bool:
    """Whether a normalised path is `tree` or below it."""
    return path == tree or path.startswith(tree if tree == "/" else tree + "/")


def member_path(root: str, member: str) -> str:
    """Return the path of a member that a caller names below `root`.

    Raises:
        InvalidRequestError: the path is not below `root`.
    """
    name = os.path.normpath(member)
    if name.startswith(("/", "../")) or name in ("..", "."):
        raise InvalidRequestError(f"'{printable(member)}' is not below '{printable(root)}'.")
    return os.path.join(root, name)


def directory_below(root: str, directory: str) -> str:
    """Return the name of a directory that a caller names below `root`, which `.` stands for.

    Raises:
        InvalidRequestError: the path is not below `root`.
    """
    return "." if os.path.normpath(directory) == "." else os.path.relpath(member_path(root, directory), root)


def printable(path: str) -> str:
    """Return a path as text that can be encoded. Bytes that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape" if _is_encodable(path) else "replace").decode("utf-8", "replace")


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
