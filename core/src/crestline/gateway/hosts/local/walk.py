"""Walks through trees of any depth, without recursion and with few open directories."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from crestline.gateway.hosts.local.beneath import Directory, ServedTrees
from crestline.gateway.hosts.local.errors import refusal
from crestline.gateway.hosts.threads import check_cancelled

_OPEN = 64
"""Maximum number of open directories of a chain."""
_LINKED = 40
"""Maximum number of nested links that a walk follows."""


@dataclass
class _Level:
    directory: Directory
    identity: tuple[int, int]
    by_link: bool
    """Whether a link led here, so that `..` does not lead back."""


class Chain:
    """The directories from the top of a tree down to the current one of a walk.

    Directories far above are closed, and opened again on the way up.
    """

    def __init__(self, top: Directory) -> None:
        """Start at `top`, which is closed with the chain."""
        self._levels = [_Level(top, _identity(top), by_link=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._levels:
            self._levels.pop().directory.close()

    @property
    def current(self) -> Directory:
        return self._levels[-1].directory

    @property
    def depth(self) -> int:
        """Levels below the top directory, 0 at the top."""
        return len(self._levels) - 1

    def holds(self, status: os.stat_result) -> bool:
        return any(level.identity == (status.st_dev, status.st_ino) for level in self._levels)

    def down(self, directory: Directory, *, by_link: bool = False) -> None:
        """Descend into a directory of the current one."""
        if by_link and sum(level.by_link for level in self._levels) > _LINKED:
            directory.close()
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), directory.path)
        self._levels.append(_Level(directory, _identity(directory), by_link))
        if len(self._levels) > _OPEN:
            far = self._levels[-_OPEN]
            if not self._levels[-_OPEN + 1].by_link:
                far.directory.close()

    def up(self) -> None:
        """Return to the parent directory.

        Raises:
            OSError: the directory was moved meanwhile.
        """
        level = self._levels.pop()
        with level.directory:
            above = self._levels[-1]
            if above.directory.fileno() >= 0:
                return
            path = above.directory.path
            above.directory = Directory(
                os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=level.directory.fileno()), path
            )
            if _identity(above.directory) != above.identity:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)


@dataclass(slots=True)
class Visit:
    """A step of a walk."""

    directory: Directory
    name: str
    below: str
    """Path below the top; empty for the top itself."""
    status: os.stat_result
    leaving: bool = False
    """Whether everything below it was visited."""
    loops: bool = False
    """Whether it is a directory that contains the walk, reached by a link. It is not entered."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def path(self) -> str:
        return self.directory.path_of(self.name)


def walk(
    directory: Directory,
    name: str,
    *,
    follow: ServedTrees | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Iterator[Visit]:
    """Walk `name` and everything below it, in order. A directory comes before its content, and again after it.

    Links are not followed. Entries that disappear meanwhile are left out, except `name` itself.

    Args:
        directory: the directory of `name`.
        name: start of the walk.
        follow: resolves links, which are then followed. A visit then has the directory and name of the target.
        wanted: selects names.
    """
    status = directory.lstat(name)
    if follow is not None and stat.S_ISLNK(status.st_mode):
        with follow.locate(directory.path_of(name), follow=True) as place:
            yield from walk(place.directory, place.name, follow=follow, wanted=wanted)
        return
    yield Visit(directory, name, "", status)
    if not stat.S_ISDIR(status.st_mode):
        return
    entered: list[tuple[str, Visit]] = []
    with Chain(directory.enter(name)) as chain:
        waiting = [chain.current.names()[::-1]]
        prefix = ""
        while True:
            check_cancelled()
            if not waiting[-1]:
                waiting.pop()
                if not waiting:
                    break
                chain.up()
                prefix, visit = entered.pop()
                visit.directory, visit.leaving = chain.current, True
                yield visit
                continue
            each = waiting[-1].pop()
            if not wanted(each):
                continue
            try:
                visit = _visit(chain, each, f"{prefix}{each}", follow)
            except FileNotFoundError:
                continue
            linked = visit.directory is not chain.current
            try:
                yield visit
                if visit.is_directory and not visit.loops:
                    try:
                        below = visit.directory.enter(visit.name)
                    except FileNotFoundError:
                        continue
                    chain.down(below, by_link=linked)
                    waiting.append(below.names()[::-1])
                    entered.append((prefix, visit))
                    prefix = f"{visit.below}/"
            finally:
                if linked:
                    visit.directory.close()
    yield Visit(directory, name, "", status, leaving=True)


class DirectoryCache:
    """Directories below a path, of which the latest stay open, because members of an archive come directory by
    directory."""

    def __init__(self, trees: ServedTrees, root: str, *, make: bool = False) -> None:
        """With `make`, create missing directories."""
        self._trees = trees
        self._root = root
        self._make = make
        self._open: OrderedDict[str, Directory] = OrderedDict()
        self.made = 0
        """Number of directories created."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for directory in self._open.values():
            directory.close()

    def get(self, below: str) -> Directory:
        """Return the directory at this path below the root. The cache owns it."""
        if below in self._open:
            self._open.move_to_end(below)
            return self._open[below]
        path = os.path.normpath(os.path.join(self._root, below))
        if self._make:
            directory, made = self._trees.make_directory(path)
            self.made += made
        else:
            directory = self._trees.directory(path)
        self._open[below] = directory
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return directory


def _visit(chain: Chain, name: str, below: str, follow: ServedTrees | None) -> Visit:
    directory = chain.current
    status = directory.lstat(name)
    if follow is None or not stat.S_ISLNK(status.st_mode):
        return Visit(directory, name, below, status)
    place = follow.open_parent(directory.path_of(name), follow=True)
    try:
        status = place.directory.lstat(place.name)
    except FileNotFoundError as error:
        place.directory.close()
        raise refusal("stat", error) from error
    return Visit(place.directory, place.name, below, status, loops=chain.holds(status))


def _identity(directory: Directory) -> tuple[int, int]:
    status = os.fstat(directory.fileno())
    return status.st_dev, status.st_ino
