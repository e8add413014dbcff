"""What a directory holds, here and on the system, and how the two differ."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from crestline.client.backends.base import Backend
from crestline.client.files.ignore import IgnoreRules
from crestline.client.files.links import map_link
from crestline.client.remote_names import is_temporary, safe_relative, spellings
from crestline.model import (
    CrestlineError,
    File,
    FileType,
    GatewayUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
    TooLargeError,
)

MANIFEST = ".crestline-manifest.json"
"""name of the file in which plain FirecREST's directories remember checksums"""

_KINDS = {stat.S_IFREG: FileType.FILE, stat.S_IFDIR: FileType.DIRECTORY, stat.S_IFLNK: FileType.LINK}


class TreeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file, directory or link below a local directory."""

    path: str
    """below the directory, with `/`"""
    type: FileType
    size: int = 0
    mode: int = 0
    modified: int = 0
    """nanoseconds since the epoch"""
    link_target: str = ""

    @property
    def is_file(self) -> bool:
        return self.type is FileType.FILE


class Scan(msgspec.Struct, kw_only=True):
    """All below a local directory, parents before children, and what cannot be sent."""

    entries: list[TreeEntry] = []
    excluded: list[str] = []
    failed: dict[str, CrestlineError] = {}
    """what ought to be sent, and why it cannot be"""

    def files(self) -> list[TreeEntry]:
        return [entry for entry in self.entries if entry.is_file]


def scan(root: Path, ignore: IgnoreRules | None = None) -> Scan:
    """Look at all below `root` that `ignore` does not exclude; links are not followed.

    Absolute links in the directory become relative.
    """
    found = Scan()
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            items = sorted(os.scandir(root / directory), key=lambda item: item.name)
        except PermissionError:
            if not directory:
                raise
            found.failed[directory] = _unreadable(root / directory)
            continue
        for item in items:
            path = posixpath.join(directory, item.name)
            if path == MANIFEST or is_temporary(item.name):
                continue
            if ignore is not None and ignore.excludes(path, is_directory=item.is_dir(follow_symlinks=False)):
                found.excluded.append(path)
                if ignore.may_include_below and item.is_dir(follow_symlinks=False):
                    pending.append(path)
                continue
            if not _is_utf8(path):
                found.failed[path] = InvalidRequestError(f"{path!r} is not UTF-8.", hint="Rename it.")
                continue
            status = item.stat(follow_symlinks=False)
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                found.excluded.append(path)
                continue
            if kind is FileType.FILE and not os.access(item.path, os.R_OK):
                found.failed[path] = _unreadable(item.path)
                continue
            found.entries.append(
                TreeEntry(
                    path=path,
                    type=kind,
                    size=status.st_size if kind is FileType.FILE else 0,
                    mode=stat.S_IMODE(status.st_mode),
                    modified=status.st_mtime_ns,
                    link_target=_link_target(root, path) if kind is FileType.LINK else "",
                )
            )
            if kind is FileType.DIRECTORY:
                pending.append(path)
    return found


def _link_target(root: Path, path: str) -> str:
    target = os.readlink(root / path)
    return map_link(path, target, str(root.absolute())) or target


def _is_utf8(path: str) -> bool:
    """Whether a message can carry the name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(path: str | Path) -> PermissionDeniedError:
    return PermissionDeniedError(f"{path} on this machine cannot be read.", hint="Check its permissions.")


class Listing:
    """All below a directory on the system."""

    def __init__(self, files: Iterable[File]) -> None:
        self.files: dict[str, File] = {}
        self.temporary: set[str] = set()
        """what transfers have put there for their time"""
        for file in files:
            name = safe_relative(file.name)
            if is_temporary(name.rpartition("/")[2]):
                self.temporary.add(name)
            else:
                self.files[name] = file

    def find(self, path: str) -> File | None:
        """The entry of a path, however the listing spells it."""
        for name in spellings(path):
            if (file := self.files.get(name)) is not None:
                return file
        return None

    def differs(self, entry: TreeEntry, *, same_content: bool) -> bool:
        """Whether a local entry has to be sent.

        Args:
            same_content: for a file of the same size, whether its bytes are known to be the same.
        """
        file = self.find(entry.path)
        if file is None or file.type is not entry.type:
            return True
        if entry.type is FileType.LINK:
            return file.link_target not in spellings(entry.link_target)
        if entry.type is FileType.DIRECTORY:
            return False
        return file.size != entry.size or not same_content or is_executable(file) != bool(entry.mode & 0o100)


def is_executable(file: File) -> bool:
    """Whether the owner may execute it."""
    return file.permissions[2:3] in ("x", "s")


async def list_tree(backend: Backend, path: str, *, in_levels: bool = True) -> Listing:
    """All below a directory, hidden files included.

    Args:
        in_levels: if one answer cannot hold all, list level by level.

    Raises:
        FileMissingError: the directory does not exist.
        TooLargeError, GatewayUnavailableError: one answer cannot hold it, and `in_levels` is False.
    """
    root = path.rstrip("/") + "/"  # the slash follows a link to a directory
    try:
        return Listing(await backend.files.list(root, hidden=True, recursive=True))
    except (TooLargeError, GatewayUnavailableError):
        if not in_levels:
            raise
        found: list[File] = []
        pending = [""]
        while pending:
            directory = pending.pop()
            for file in await backend.files.list(posixpath.join(root, directory), hidden=True):
                name = posixpath.join(directory, safe_relative(file.name))
                found.append(msgspec.structs.replace(file, name=name))
                if file.is_directory:
                    pending.append(name)
        return Listing(found)
