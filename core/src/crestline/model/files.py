"""A file as a directory listing shows it."""

from __future__ import annotations

import enum

import msgspec


class FileType(enum.StrEnum):
    """Kind of a directory entry, by the letter that `ls -l` prints first.

    >>> FileType("d").name
    'DIRECTORY'
    """

    FILE = "-"
    DIRECTORY = "d"
    LINK = "l"
    CHARACTER_DEVICE = "c"
    BLOCK_DEVICE = "b"
    PIPE = "p"
    SOCKET = "s"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a listing (FirecREST `GET /filesystem/{system}/ops/ls`).

    Example: `sum(file.size for file in await daint.ls("/scratch/u/run1", recursive=True))`
    """

    name: str
    """name within its directory; in a recursive listing the path below the listed directory"""
    type: FileType
    size: int
    """size in bytes"""
    permissions: str = ""
    """as `ls -l` prints them, without the type letter (`rwxr-xr-x`)"""
    user: str = ""
    group: str = ""
    modified: str = ""
    """local time of the system, `YYYY-MM-DDTHH:MM:SS` (FirecREST sends no zone)"""
    link_target: str | None = None
    """target of a symbolic link, else None"""

    @property
    def is_directory(self) -> bool:
        """True for a directory, not for a link to one."""
        return self.type is FileType.DIRECTORY
