"""Converts a job's archives to those of GitLab, and the reverse, without unpacking them.

This file runs as a separate program (`python -I repack.py`), confined if possible, with limits of memory and time,
without credentials and with an empty environment. It opens only the two given files. Members pass from one archive into
the other. Members whose names or links would leave the project are skipped and listed on standard output.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import posixpath
import re
import resource
import shutil
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

TOO_LARGE, UNREADABLE, NOTHING = 3, 4, 5
"""Exit codes."""
_MEMORY = 1024 * 1024 * 1024
_SECONDS = 3600
_LONGEST_LINK = 4096
_MOST_REMARKS = 20
_RATIO_COUNTS_FROM = 64 * 1024 * 1024
_EARLIEST = (1980, 1, 1, 0, 0, 0)


class Limits:
    """Limits of an archive's content, counted while it passes.

    Args:
        packed: bytes of the archive, to which `ratio` applies.
    """

    def __init__(self, packed: int, *, members: int, unpacked: int, ratio: int) -> None:
        self._members = members
        self._unpacked = unpacked
        self._ratio = ratio
        self._packed = max(packed, 1)
        self._names = 0
        self._bytes = 0

    def count_member(self) -> None:
        """Raises TooLargeError: one member too many."""
        self._names += 1
        if self._names > self._members:
            raise TooLargeError(f"it has more than {self._members} members (limits.members)")

    def count_bytes(self, number: int) -> None:
        """Raises TooLargeError: too many bytes, or too many for the archive's own size."""
        self._bytes += number
        if self._bytes > self._unpacked:
            raise TooLargeError(f"it unpacks to more than {self._unpacked} bytes (limits.unpacked)")
        if self._bytes > _RATIO_COUNTS_FROM and self._bytes > self._ratio * self._packed:
            raise TooLargeError(f"it unpacks to more than {self._ratio} times its size (limits.ratio)")


class TooLargeError(Exception):
    """An archive has more members or bytes than the limits allow."""


class Member:
    """A file, directory or link that passes from one archive into the other."""

    def __init__(self, name: str, mode: int, modified: float, *, link: str | None = None) -> None:
        self.name = name
        self.mode = mode
        self.modified = modified
        self.link = link
        self.size = 0
        self.content: IO[bytes] | None = None

    @property
    def is_directory(self) -> bool:
        return self.content is None and self.link is None


class Gate:
    """Decides which members pass.

    Args:
        project: the project's directory on the system. Absolute links into it are made relative.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._links: set[str] = set()
        self._parents: set[str] = set()
        self._remarks = 0

    def admit(self, name: str) -> str | None:
        """Return the normalised name of a member, or None if it is skipped."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts:
            return None
        clean = "/".join(parts)
        if name.startswith("/") or ".." in parts or "\0" in name or ("\\" in name and os.sep == "\\"):
            return self.refuse(name, "its name leads out of the project")
        try:
            clean.encode()
        except UnicodeEncodeError:
            return self.refuse(name, "its name is not UTF-8")
        above = ["/".join(parts[:number]) for number in range(1, len(parts))]
        if any(each in self._links for each in above):
            return self.refuse(name, "it lies below a link")
        self._parents.update(above)
        return clean

    def admit_link(self, name: str, target: str) -> str | None:
        """Return the target of a link if it is below the project, with `..` only at its beginning."""
        if target.startswith(f"{self._project}/"):
            target = posixpath.relpath(target, posixpath.dirname(f"{self._project}/{name}"))
        parts = [part for part in target.split("/") if part not in ("", ".")]
        up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
        if target.startswith("/") or not parts or ".." in parts[up:] or up > name.count("/") or "\0" in target:
            return self.refuse(name, "it is a link that leads elsewhere")
        if len(target) > _LONGEST_LINK or name in self._parents:
            return self.refuse(name, "it is a link in a directory's place")
        self._links.add(name)
        return "/".join(parts)

    def replace(self, name: str) -> None:
        """Record that a member that is not a link replaces a link."""
        self._links.discard(name)

    def refuse(self, name: str, why: str) -> str | None:
        """Report that a member is skipped, and return None in place of its name."""
        self._remarks += 1
        if self._remarks <= _MOST_REMARKS:
            print(f"Left out: {name!r}: {why}.")
        elif self._remarks == _MOST_REMARKS + 1:
            print("Left out: more of the kind.")
        return None


def from_tar(source: IO[bytes], gate: Gate, limits: Limits) -> Iterator[Member]:
    """Yield the members of a tar archive in gzip, without git's own files."""
    with tarfile.open(fileobj=source, mode="r|gz", errorlevel=1) as archive:
        for entry in archive:
            limits.count_member()
            limits.count_bytes(entry.size)  # also of skipped ones, which are unpacked too
            name = gate.admit(entry.name)
            if name is None or ".git" in name.split("/"):
                continue
            member = Member(name, entry.mode & 0o777, entry.mtime)
            if entry.issym():
                member.link = gate.admit_link(name, entry.linkname)
                if member.link is None:
                    continue
            elif entry.isreg() and not entry.issparse():
                gate.replace(name)
                member.size = entry.size
                member.content = archive.extractfile(entry)
            elif not entry.isdir():
                gate.refuse(entry.name, "it is neither a file, a directory nor a link")
                continue
            yield member


def from_zip(source: IO[bytes], gate: Gate, limits: Limits) -> Iterator[Member]:
    """Yield the members of a zip archive."""
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            limits.count_member()
            name = gate.admit(entry.filename)
            if name is None:
                continue
            mode = entry.external_attr >> 16
            member = Member(name, stat.S_IMODE(mode) & 0o777, _seconds(entry.date_time))
            if stat.S_ISLNK(mode):
                if entry.file_size > _LONGEST_LINK:
                    gate.refuse(entry.filename, "its link is too long")
                    continue
                target = os.fsdecode(archive.read(entry))
                member.link = gate.admit_link(name, target)
                if member.link is None:
                    continue
            elif not entry.is_dir():
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    gate.refuse(entry.filename, "it is neither a file, a directory nor a link")
                    continue
                gate.replace(name)
                member.size = entry.file_size
                limits.count_bytes(entry.file_size)
                with archive.open(entry) as member.content:
                    yield member
                continue
            yield member


def from_folder(folder: str, gate: Gate, limits: Limits, chosen: Any) -> Iterator[Member]:
    """Yield the files below a directory that was fetched from a job that has ended."""
    includes = [re.compile(each.encode("latin-1"), re.DOTALL) for each in chosen["includes"]]
    excludes = [re.compile(each.encode("latin-1"), re.DOTALL) for each in chosen["excludes"]]
    for place, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = [each for each in folders if each != b".git"]
        for file in sorted([*files, *folders]):
            path = os.path.join(place, file)
            below = os.path.relpath(path, os.fsencode(folder))
            shown = b"./" + below
            if not any(each.search(shown) for each in includes) or any(each.search(shown) for each in excludes):
                continue
            limits.count_member()
            status = os.lstat(path)
            name = gate.admit(os.fsdecode(below))
            if name is None:
                continue
            member = Member(name, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime)
            if stat.S_ISLNK(status.st_mode):
                member.link = gate.admit_link(name, os.fsdecode(os.readlink(path)))
                if member.link is not None:
                    yield member
            elif stat.S_ISREG(status.st_mode):
                limits.count_bytes(status.st_size)
                member.size = status.st_size
                with open(path, "rb", opener=_no_follow) as member.content:
                    yield member
            elif stat.S_ISDIR(status.st_mode):
                yield member


def to_zip(members: Iterator[Member], target: IO[bytes]) -> int:
    """Write members into a zip archive and return their number."""
    count = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
        for count, member in enumerate(members, 1):  # noqa: B007
            moment = max(time.localtime(max(member.modified, 0))[:6], _EARLIEST)
            entry = zipfile.ZipInfo(member.name + ("/" if member.is_directory else ""), moment)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            kind = stat.S_IFLNK if member.link is not None else stat.S_IFDIR if member.is_directory else stat.S_IFREG
            entry.external_attr = (kind | member.mode | stat.S_IRUSR | stat.S_IWUSR) << 16
            if member.link is not None:
                archive.writestr(entry, os.fsencode(member.link))
            elif member.content is None:
                entry.external_attr |= stat.S_IXUSR << 16 | 0x10
                archive.writestr(entry, b"")
            else:
                entry.file_size = member.size
                with archive.open(entry, "w", force_zip64=member.size > 1 << 30) as stream:
                    shutil.copyfileobj(member.content, stream, 1 << 20)
    return count


def to_tar(members: Iterator[Member], target: IO[bytes]) -> int:
    """Write members into a tar archive in gzip and return their number."""
    count = 0
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as archive:
        for count, member in enumerate(members, 1):  # noqa: B007
            entry = tarfile.TarInfo(member.name)
            entry.mode = member.mode | stat.S_IRUSR | stat.S_IWUSR
            entry.mtime = max(int(member.modified), 0)
            if member.link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, member.link
                archive.addfile(entry)
            elif member.content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, entry.mode | stat.S_IXUSR
                archive.addfile(entry)
            else:
                entry.size = member.size
                archive.addfile(entry, member.content)
    return count


def to_gzip(members: Iterator[Member], target: IO[bytes]) -> int:
    """Write files one after the other, each in gzip under its own name, and return their number."""
    count = 0
    for member in members:
        if member.content is not None:
            count += 1
            name = posixpath.basename(member.name)
            with gzip.GzipFile(name, "wb", 6, target, mtime=max(member.modified, 0)) as stream:
                shutil.copyfileobj(member.content, stream, 1 << 20)
    return count


def to_raw(members: Iterator[Member], target: IO[bytes]) -> int:
    """Write the only file unchanged, and return the number of files."""
    count = 0
    for member in members:
        if member.content is not None:
            count += 1
            if count > 1:
                raise ValueError("the format raw takes one file")
            shutil.copyfileobj(member.content, target, 1 << 20)
    return count


_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
"""Errors of the libraries for incomplete archives; RuntimeError for encryption and unknown methods."""
_SOURCES = {"tar": from_tar, "zip": from_zip}
_TARGETS = {"zip": to_zip, "tar": to_tar, "gzip": to_gzip, "raw": to_raw}


def main(arguments: list[str]) -> int:
    """Run `repack.py SOURCE-KIND SOURCE TARGET-KIND TARGET OPTIONS-AS-JSON` and return the exit code."""
    kind, source, target_kind, target, options = arguments
    asked = json.loads(options)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked["archive"], asked["archive"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gate = Gate(asked["project"])
    counts = {name: asked[name] for name in ("members", "unpacked", "ratio")}
    try:
        with open(target, "xb") as stream:
            if kind == "folder":
                count = _TARGETS[target_kind](from_folder(source, gate, Limits(1 << 60, **counts), asked), stream)
            else:
                with open(source, "rb", opener=_no_follow) as archive:
                    limits = Limits(os.fstat(archive.fileno()).st_size, **counts)
                    count = _TARGETS[target_kind](_SOURCES[kind](archive, gate, limits), stream)
    except TooLargeError as error:
        print(f"refused: {error}")
        return TOO_LARGE
    except MemoryError:
        print("refused: its headers do not fit into memory")
        return TOO_LARGE
    except OSError as error:
        print(f"refused: {error.strerror or error}")
        return TOO_LARGE if error.errno == errno.EFBIG else UNREADABLE
    except _UNREADABLE as error:
        print(f"refused: {error}")
        return UNREADABLE
    return 0 if count else NOTHING


def _seconds(moment: tuple[int, int, int, int, int, int]) -> float:
    try:
        return time.mktime((*moment, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0


def _no_follow(path: str | bytes, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
