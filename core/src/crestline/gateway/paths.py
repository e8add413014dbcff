"""Which paths the file endpoints of a system serve."""

from __future__ import annotations

import os
from collections.abc import Iterable

from crestline.model import InvalidRequestError, PermissionDeniedError


class PathGuard:
    """The trees of one system, without the gateway's own secrets.

    `check` looks at the text alone, so it holds for any host; the other methods ask this machine's file system and
    belong into worker threads.
    """

    def __init__(self, system: str, roots: Iterable[str], denied: Iterable[str] = ()) -> None:
        self._system = system
        self._roots = [os.path.normpath(root) for root in roots]
        self._real_roots = [os.path.realpath(root) for root in self._roots]
        self._denied = [os.path.realpath(path) for path in denied]

    def check(self, path: str) -> str:
        """`path` normalised: absolute, `..` and `//` resolved as text, inside one of the trees.

        Raises:
            InvalidRequestError: with FirecREST's text.
        """
        normal = os.path.normpath(path)
        if normal.startswith("//"):  # POSIX keeps a leading double slash apart
            normal = normal[1:]
        if not normal.startswith("/") or not _is_encodable(normal) or "\0" in normal:
            raise self._outside(path)
        if not any(is_inside(normal, root) for root in [*self._roots, *self._real_roots]):
            raise self._outside(normal)
        return normal

    def follow(self, path: str) -> str:
        """Where `path` leads once every link is followed.

        Raises:
            InvalidRequestError: outside.
            PermissionDeniedError: into what is not served.
        """
        real = os.path.realpath(self.check(path))
        self._confine(real, path)
        return real

    def locate(self, path: str) -> str:
        """`path` with the links of its directory followed, a link at its end kept as it is.

        Raises:
            InvalidRequestError: outside.
            PermissionDeniedError: into what is not served.
        """
        path = self.check(path)
        if path in self._roots:
            return self.follow(path)
        directory, name = os.path.split(path)
        real = os.path.join(os.path.realpath(directory), name)
        self._confine(real, path)
        return real

    def enter(self, directory: str, name: str) -> str:
        """Where `name` in a directory without links leads; cheaper than `follow` while walking a tree.

        Raises:
            InvalidRequestError: outside.
            PermissionDeniedError: into what is not served.
        """
        path = os.path.join(directory, name)
        if os.path.islink(path):
            return self.follow(path)
        self._confine(path, path)
        return path

    def is_served(self, real: str) -> bool:
        """Whether a path without links is inside the trees and not denied."""
        return not self.is_denied(real) and any(is_inside(real, root) for root in self._real_roots)

    def is_denied(self, real: str) -> bool:
        """Whether a path without links is one of the gateway's own secrets."""
        return any(is_inside(real, each) for each in self._denied)

    def must_stay(self, real: str) -> bool:
        """Whether removing or renaming this path would take a whole tree, or the gateway's secrets, along."""
        return any(is_inside(each, real) for each in [*self._real_roots, *self._denied])

    def _confine(self, real: str, path: str) -> None:
        if self.is_denied(real):
            raise PermissionDeniedError(f"cannot access '{printable(path)}': Permission denied")
        if not any(is_inside(real, root) for root in self._real_roots):
            raise self._outside(path)

    def _outside(self, path: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The provided path ({printable(path)}) does not match any of the defined filesystem paths for the "
            f"requested system ({self._system}).",
            hint=f"Give an absolute path below one of: {', '.join(self._roots)}.",
        )


def is_inside(path: str, tree: str) -> bool:
    """Whether a normalised path is `tree` or below it."""
    return path == tree or path.startswith(tree if tree == "/" else tree + "/")


def member_path(root: str, member: str) -> str:
    """The path of what a caller names below `root`.

    Raises:
        InvalidRequestError: it would not be below.
    """
    name = os.path.normpath(member)
    if name.startswith(("/", "../")) or name in ("..", "."):
        raise InvalidRequestError(f"'{printable(member)}' is not below '{printable(root)}'.")
    return os.path.join(root, name)


def printable(path: str) -> str:
    """A path as text that can be encoded: bytes that are not UTF-8 show as U+FFFD."""
    return path.encode("utf-8", "surrogateescape" if _is_encodable(path) else "replace").decode("utf-8", "replace")


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
