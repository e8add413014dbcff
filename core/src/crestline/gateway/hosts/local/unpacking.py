"""Unpacks tar archives and tar streams below a directory."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from crestline.gateway.hosts.local.beneath import Directory, Place, ServedTrees
from crestline.gateway.hosts.local.content import check_target, open_path, replacing, write_all
from crestline.gateway.hosts.local.walk import DirectoryCache
from crestline.gateway.hosts.refusals import unpacks_to_too_much
from crestline.gateway.hosts.threads import check_cancelled
from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError
from crestline.wire.filesystem import Compression
from crestline.wire.tar import ArchiveLimits, Packing, Source, TarDamagedError, TarLimitError, TarReader

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 lacks extraction filters

_NOWHERE = "/\x7f"
"""tarfile's filter follows links below its root. With this root it checks only the text of the names."""


def extract(
    trees: ServedTrees, archive: str, target: str, compression: Compression, limits: ArchiveLimits, temporary: str
) -> None:
    """Unpack an archive into an existing directory."""
    with os.fdopen(open_path(trees, archive), "rb") as stream:
        unpack(trees, _Interruptible(stream), target, limits, temporary, compression)


class _Interruptible:
    """A file whose reader stops when the request is cancelled, even if it unpacks nothing."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        check_cancelled()
        return self._stream.read(size)


def unpack(
    trees: ServedTrees,
    stream: Source,
    target: str,
    limits: ArchiveLimits,
    temporary: str,
    packing: Packing = "detect",
) -> None:
    """Write the members of a tar stream below `target`, each file atomically.

    Raises:
        InvalidRequestError: the stream is not tar, is truncated, or has a member that would leave `target`.
        TooLargeError: the stream exceeds a limit.
    """
    root = trees.check(target)
    with trees.directory(root):
        pass  # the directory must exist
    try:
        with DirectoryCache(trees, root, make=True) as directories:
            _Unpacking(trees, TarReader(stream, packing, limits), root, directories, temporary).run()
    except TarLimitError as error:
        raise unpacks_to_too_much(str(error)) from error
    except tarfile.FilterError as error:
        raise InvalidRequestError(
            f"tar: {printable(str(error))}", hint="Members must stay below the target directory."
        ) from error
    except TarDamagedError as error:
        raise InvalidRequestError(
            f"tar: This does not look like a whole tar archive: {printable(str(error))}",
            hint="Check the archive and its compression.",
        ) from error


class _Unpacking:
    """One operation. tarfile's data filter keeps members below the root, and `beneath` keeps them in the served
    trees."""

    def __init__(
        self, trees: ServedTrees, tar: TarReader, root: str, directories: DirectoryCache, temporary: str
    ) -> None:
        self._trees = trees
        self._tar = tar
        self._root = root
        self._directories = directories
        self._temporary = temporary

    def run(self) -> None:
        times: list[tuple[str, float]] = []
        for member in self._tar:
            check_cancelled()
            member = tarfile.data_filter(member, _NOWHERE)
            below = os.path.normpath(member.name)
            if member.isdir():
                self._directory(below)
                times.append((below, member.mtime))
                continue
            above, name = os.path.split(below)
            place = Place(self._directory(above or "."), name)
            if member.issym() or member.islnk():
                self._write_link(member, place)
            elif member.isreg():
                self._write_file(member, place)
        for below, mtime in reversed(times):  # last, because writing into a directory changes its time
            _set_time(Place(self._directory(below), "."), mtime)

    def _directory(self, below: str) -> Directory:
        """Return a directory of the target, created if necessary."""
        made = self._directories.made
        directory = self._directories.get(below)
        self._tar.count(self._directories.made - made)
        return directory

    def _write_link(self, member: tarfile.TarInfo, place: Place) -> None:
        _remove_link(place, all_but_directories=True)
        if member.issym():
            place.directory.symlink(member.linkname, place.name)
            return
        with self._trees.locate(os.path.normpath(os.path.join(self._root, member.linkname))) as earlier:
            earlier.directory.link(earlier.name, place.directory, place.name)

    def _write_file(self, member: tarfile.TarInfo, place: Place) -> None:
        _remove_link(place, all_but_directories=False)
        check_target(place)
        with replacing(place, self._temporary, member.mode) as descriptor:
            offset = 0
            for block in self._tar.content(member):
                check_cancelled()
                write_all(descriptor, block, offset)
                offset += len(block)
        _set_time(place, member.mtime)


def _remove_link(place: Place, *, all_but_directories: bool) -> None:
    """Remove the link that a member replaces. As with tar(1), the member replaces the link and not its target."""
    try:
        mode = place.directory.lstat(place.name).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode) or (all_but_directories and not stat.S_ISDIR(mode)):
        place.directory.unlink(place.name)


def _set_time(place: Place, seconds: float) -> None:
    try:
        place.directory.utime(place.name, seconds)
    except OverflowError:  # a time that the file system cannot store
        return
