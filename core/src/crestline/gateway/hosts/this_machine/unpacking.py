"""Unpacking tar archives and tar streams below a directory."""

from __future__ import annotations

import os
import sys
import uuid
import zlib
from typing import IO, TYPE_CHECKING

from anyio.from_thread import check_cancelled

from crestline.gateway.hosts.streams import BLOCK
from crestline.gateway.hosts.this_machine.content import check_target, open_regular, replacing, write_all
from crestline.gateway.hosts.this_machine.trees import make_directories
from crestline.gateway.paths import PathGuard, is_inside, printable
from crestline.model import InvalidRequestError
from crestline.wire.filesystem import Compression

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 has no extraction filters

SUFFIX = {"none": "", "gzip": "gz", "bzip2": "bz2", "xz": "xz"}
"""what tarfile calls a compression"""


def extract(guard: PathGuard, archive: str, target: str, compression: Compression) -> None:
    """Unpack an archive into an existing directory."""
    with os.fdopen(open_regular(guard, archive), "rb") as stream:
        unpack(guard, stream, target, f"r|{SUFFIX[compression]}")


def unpack(guard: PathGuard, stream: IO[bytes], target: str, mode: str = "r|*") -> None:
    """Write the members of a tar stream below `target`, each file atomically.

    Raises:
        InvalidRequestError: not a tar stream, cut off, or with a member that would leave `target`.
    """
    root = guard.follow(target)
    if not os.path.isdir(root):
        os.listdir(root)  # raises what is wrong with it
    try:
        with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
            _Unpacking(guard, tar, root).run()
    except tarfile.FilterError as error:
        raise InvalidRequestError(
            f"tar: {printable(str(error))}", hint="Members must stay below the target directory."
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InvalidRequestError(
            f"tar: This does not look like a whole tar archive: {printable(str(error))}",
            hint="Check the archive and its compression.",
        ) from error


class _Unpacking:
    """One run. tarfile's data filter keeps members below the root, the guard keeps them off what is not served."""

    def __init__(self, guard: PathGuard, tar: tarfile.TarFile, root: str) -> None:
        self._guard = guard
        self._tar = tar
        self._root = root
        # Directories of members and where they lead. No member can put a link in the place of a directory.
        self._directories: dict[str, str] = {}

    def run(self) -> None:
        """Unpack all members."""
        times: list[tuple[str, float]] = []
        while (member := self._tar.next()) is not None:
            check_cancelled()
            self._make_way(member)
            member = tarfile.data_filter(member, self._root)
            path = os.path.normpath(os.path.join(self._root, member.name))
            if member.isdir():
                times.append((self._directory(path), member.mtime))
            else:
                self._write(member, path)
            self._tar.members.clear()  # type: ignore[attr-defined]  # else a long stream fills the memory
        for path, mtime in reversed(times):  # at the end: writing into a directory changes its time
            os.utime(path, (mtime, mtime))

    def _make_way(self, member: tarfile.TarInfo) -> None:
        """Remove the link that a member replaces: as for tar(1), what is replaced is not what it leads to."""
        path = os.path.normpath(os.path.join(self._root, member.name.lstrip("/")))
        if (
            not member.isdir()
            and os.path.islink(path)
            and is_inside(os.path.realpath(os.path.dirname(path)), self._root)
        ):
            os.unlink(self._guard.locate(path))

    def _directory(self, path: str) -> str:
        if path not in self._directories:
            real = self._guard.follow(path)
            make_directories(real)
            self._directories[path] = real
        return self._directories[path]

    def _write(self, member: tarfile.TarInfo, path: str) -> None:
        directory, name = os.path.split(path)
        place = self._guard.enter(self._directory(directory), name)
        if member.issym() or member.islnk():
            if os.path.lexists(place):
                os.unlink(place)
            if member.issym():
                os.symlink(member.linkname, place)
            else:
                source = self._guard.locate(os.path.normpath(os.path.join(self._root, member.linkname)))
                os.link(source, place, follow_symlinks=False)
        else:
            self._write_file(member, place)

    def _write_file(self, member: tarfile.TarInfo, place: str) -> None:
        check_target(place)
        content = self._tar.extractfile(member)
        with replacing(place, uuid.uuid4().hex, member.mode) as descriptor:
            offset = 0
            while content is not None and (block := content.read(BLOCK)):
                check_cancelled()
                write_all(descriptor, block, offset)
                offset += len(block)
            if offset != member.size:
                raise tarfile.ReadError("unexpected end of data")
        os.utime(place, (member.mtime, member.mtime))
