"""Directory entries as in `ls -l`."""

from __future__ import annotations

import grp
import pwd
import stat
import time
from collections.abc import Iterator

from crestline.gateway.hosts.local.beneath import Directory, Place, ServedTrees
from crestline.gateway.hosts.local.walk import walk
from crestline.gateway.hosts.selections import listing_order
from crestline.gateway.hosts.threads import check_cancelled
from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError, TooLargeError
from crestline.wire.filesystem import FileEntry, FileStat

_MAX_ENTRIES = 300_000


class Names:
    """Names of users and groups, looked up once per listing; numbers for ids without a name or on request."""

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        if uid not in self._users:
            self._users[uid] = str(uid) if self._numeric else user_name(uid)
        return self._users[uid]

    def group(self, gid: int) -> str:
        if gid not in self._groups:
            self._groups[gid] = str(gid) if self._numeric else group_name(gid)
        return self._groups[gid]


def user_name(uid: int) -> str:
    """Return the user's name, or the uid if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the group's name, or the gid if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def describe(
    trees: ServedTrees, directory: Directory, name: str, shown: str, names: Names, *, dereference: bool = False
) -> FileEntry:
    """Return an entry with the name `shown`. With `dereference`, describe the target of a link if it is served."""
    status = directory.lstat(name)
    target = None
    if stat.S_ISLNK(status.st_mode):
        target = printable(directory.readlink(name))
        if dereference:
            try:
                with trees.locate(directory.path_of(name), follow=True) as place:
                    status, target = place.directory.lstat(place.name), None
            except (InvalidRequestError, OSError):
                pass  # a dangling link, or one that leaves the trees: describe the link itself
    mode = stat.filemode(status.st_mode)
    moment = time.localtime(status.st_mtime)
    return FileEntry(
        name=printable(shown),
        type="-" if mode[0] == "?" else mode[0],
        user=names.user(status.st_uid),
        group=names.group(status.st_gid),
        permissions=mode[1:],
        last_modified=time.strftime("%Y-%m-%dT%H:%M:%S", moment),
        size=str(status.st_size),
        link_target=target,
    )


def describe_path(trees: ServedTrees, path: str) -> FileEntry:
    """Return the entry of `path` itself. Its name is the whole path."""
    with trees.locate(path) as place:
        return describe(trees, place.directory, place.name, trees.check(path), Names())


def list_entries(
    trees: ServedTrees, path: str, *, hidden: bool, recursive: bool, dereference: bool, numeric: bool
) -> list[FileEntry]:
    """Return the entries of a directory, or the one entry of anything else with its whole path as name.

    A link at the end of `path` is an entry itself, unless a slash follows or `dereference` is set.

    Raises:
        TooLargeError: the directory has more than 300,000 entries.
    """
    names = Names(numeric=numeric)
    entries: list[FileEntry] = []
    with trees.locate(path, follow=dereference or path.endswith("/")) as place:
        if not stat.S_ISDIR(place.directory.lstat(place.name).st_mode):
            shown = trees.check(path)
            return [describe(trees, place.directory, place.name, shown, names, dereference=dereference)]
        for directory, name, below in _entries(place, hidden=hidden, recursive=recursive):
            try:
                entries.append(describe(trees, directory, name, below, names, dereference=dereference))
            except FileNotFoundError:
                continue  # removed meanwhile
            if len(entries) > _MAX_ENTRIES:
                raise TooLargeError("Command output exceeded buffer limit.", hint="List its directories one by one.")
    if recursive:
        entries.sort(key=lambda entry: listing_order(entry.name))
    return entries


def _entries(place: Place, *, hidden: bool, recursive: bool) -> Iterator[tuple[Directory, str, str]]:
    """Yield directory, name and path below `place` of each entry. Links are not followed."""
    if recursive:
        wanted = _all if hidden else _visible
        for visit in walk(place.directory, place.name, wanted=wanted):
            if visit.below and not visit.leaving:
                yield visit.directory, visit.name, visit.below
        return
    with place.directory.enter(place.name) as directory:
        for name in directory.names():
            check_cancelled()
            if hidden or _visible(name):
                yield directory, name, name


def _all(_: str) -> bool:
    return True


def _visible(name: str) -> bool:
    return not name.startswith(".")


def file_stat(trees: ServedTrees, path: str, *, dereference: bool) -> FileStat:
    """Return the values of stat(2) or lstat(2)."""
    with trees.locate(path, follow=dereference) as place:
        status = place.directory.lstat(place.name)
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
