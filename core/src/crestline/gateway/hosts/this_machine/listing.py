"""Directory entries as `ls -l` shows them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator

from anyio.from_thread import check_cancelled

from crestline.gateway.paths import PathGuard, printable
from crestline.model import TooLargeError
from crestline.wire.filesystem import FileEntry, FileStat

_MAX_ENTRIES = 300_000


class Names:
    """Names of users and groups, looked up once per listing; numbers where there is no name or none is wanted."""

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """Name of a user."""
        if uid not in self._users:
            self._users[uid] = str(uid) if self._numeric else user_name(uid)
        return self._users[uid]

    def group(self, gid: int) -> str:
        """Name of a group."""
        if gid not in self._groups:
            self._groups[gid] = str(gid) if self._numeric else group_name(gid)
        return self._groups[gid]


def user_name(uid: int) -> str:
    """The user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number of one that has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def describe(guard: PathGuard, path: str, name: str, names: Names, *, dereference: bool = False) -> FileEntry:
    """One entry; with `dereference` what a link leads to, as long as that is served."""
    status = os.lstat(path)
    target = None
    if stat.S_ISLNK(status.st_mode):
        target = printable(os.readlink(path))
        if dereference and guard.is_served(real := os.path.realpath(path)) and os.path.exists(real):
            status, target = os.stat(real), None
    mode = stat.filemode(status.st_mode)
    moment = time.localtime(status.st_mtime)
    return FileEntry(
        name=printable(name),
        type="-" if mode[0] == "?" else mode[0],
        user=names.user(status.st_uid),
        group=names.group(status.st_gid),
        permissions=mode[1:],
        last_modified=time.strftime("%Y-%m-%dT%H:%M:%S", moment),
        size=str(status.st_size),
        link_target=target,
    )


def list_entries(
    guard: PathGuard, path: str, *, hidden: bool, recursive: bool, dereference: bool, numeric: bool
) -> list[FileEntry]:
    """The entries of a directory, or the one of anything else, named by its whole path.

    A link at the end of `path` is an entry itself, unless a slash follows or `dereference` is set.

    Raises:
        TooLargeError: there are more than 300,000.
    """
    names = Names(numeric=numeric)
    real = guard.follow(path) if dereference or path.endswith("/") else guard.locate(path)
    if not stat.S_ISDIR(os.lstat(real).st_mode):
        return [describe(guard, real, guard.check(path), names, dereference=dereference)]
    entries = []
    for each in _walk(guard, real, hidden=hidden, recursive=recursive):
        check_cancelled()
        try:
            entries.append(describe(guard, os.path.join(real, each), each, names, dereference=dereference))
        except FileNotFoundError:
            continue  # removed while we looked
        if len(entries) > _MAX_ENTRIES:
            raise TooLargeError("Command output exceeded buffer limit.", hint="List its directories one by one.")
    return entries


def _walk(guard: PathGuard, root: str, *, hidden: bool, recursive: bool) -> Iterator[str]:
    """Paths below `root`, directory by directory as `ls -R` goes; links are not followed."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(root, below)) as found:
            entries = [
                each
                for each in found
                if (hidden or not each.name.startswith(".")) and not guard.is_denied(os.path.normpath(each.path))
            ]
        entries.sort(key=lambda each: each.name)
        for each in entries:
            yield os.path.join(below, each.name)
        if recursive:
            directories = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
            waiting += [os.path.join(below, name) for name in reversed(directories)]


def file_stat(guard: PathGuard, path: str, *, dereference: bool) -> FileStat:
    """The numbers of stat(2) or lstat(2)."""
    status = os.stat(guard.follow(path)) if dereference else os.lstat(guard.locate(path))
    return FileStat(
        mode=status.st_mode,
        ino=status.st_ino,
        dev=status.st_dev,
        nlink=status.st_nlink,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        atime=int(status.st_atime),
        ctime=int(status.st_ctime),
        mtime=int(status.st_mtime),
    )
