"""Copying, moving and removing whole trees, however deep: nothing here calls itself."""

from __future__ import annotations

import errno
import os
import stat
import uuid

from anyio.from_thread import check_cancelled

from crestline.gateway.hosts.this_machine.content import blocks_of, open_regular, replacing, target_of, write_all
from crestline.gateway.paths import PathGuard, is_inside, printable
from crestline.model import InvalidRequestError, PermissionDeniedError

# source, directory and name of the copy, directories that hold the source
_Step = tuple[str, str, str, tuple[str, ...]]


def copy(guard: PathGuard, source: str, target: str, *, dereference: bool) -> None:
    """As `cp -r` does, each file atomically: into `target` where that is a directory."""
    real = guard.follow(source) if dereference else guard.locate(source)
    status = os.lstat(real)
    place = _destination(guard, source, target)
    if stat.S_ISDIR(status.st_mode) and is_inside(os.path.realpath(place), real):
        raise InvalidRequestError(f"cp: cannot copy a directory, '{printable(real)}', into itself")
    if os.path.lexists(place) and os.path.samefile(real, place):
        raise InvalidRequestError(f"cp: '{printable(source)}' and '{printable(place)}' are the same file")
    _copy(guard, real, place, dereference=dereference)


def _copy(guard: PathGuard, source: str, target: str, *, dereference: bool) -> None:
    """Copy `source`, in a directory without links, to `target`."""
    directory, name = os.path.split(target)
    made: list[tuple[str, int]] = []
    waiting: list[_Step] = [(source, guard.follow(directory), name, ())]
    while waiting:
        check_cancelled()
        source, directory, name, above = waiting.pop()
        if guard.is_denied(source):
            continue
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode) and dereference:
            source = guard.follow(source)
            status = os.stat(source)
        if stat.S_ISLNK(status.st_mode):
            _replace_link(os.readlink(source), guard.locate(os.path.join(directory, name)))
            continue
        target = guard.enter(directory, name)
        if stat.S_ISREG(status.st_mode):
            _copy_file(guard, source, target, status)
        elif not stat.S_ISDIR(status.st_mode):
            raise InvalidRequestError(f"cp: '{printable(source)}' is neither a file, a directory nor a link")
        elif source in above:
            raise InvalidRequestError(f"cp: a link leads back to '{printable(source)}'")
        else:
            if make_directory(target):
                made.append((target, stat.S_IMODE(status.st_mode)))
            above = (*above, source) if dereference else ()
            waiting += [(os.path.join(source, each), target, each, above) for each in os.listdir(source)]
    for target, mode in reversed(made):  # at the end: a mode may forbid writing
        os.chmod(target, mode)


def make_directory(path: str) -> bool:
    """Make a directory, unless it is there already; whether it was made."""
    try:
        os.mkdir(path, 0o777)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return False
    return True


def make_directories(path: str) -> None:
    """Make a directory and those above it, however deep."""
    absent = []
    while True:
        try:
            make_directory(path)
            break
        except FileNotFoundError:
            absent.append(path)
            path = os.path.dirname(path)
    for each in reversed(absent):
        make_directory(each)


def _copy_file(guard: PathGuard, source: str, target: str, status: os.stat_result) -> None:
    descriptor = open_regular(guard, source)
    try:
        mode = None if os.path.exists(target) else stat.S_IMODE(status.st_mode)
        with replacing(target_of(guard, target), uuid.uuid4().hex, mode) as written:
            offset = 0
            for block in blocks_of(descriptor):
                write_all(written, block, offset)
                offset += len(block)
    finally:
        os.close(descriptor)


def _replace_link(points_to: str, link: str) -> None:
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(points_to, link)


def move(guard: PathGuard, source: str, target: str) -> None:
    """As `mv` does: into `target` where that is a directory; across file systems as a copy and a removal."""
    real = guard.locate(source)
    os.lstat(real)
    _refuse_if_kept(guard, real, "mv: refusing to move")
    place = guard.locate(_destination(guard, source, target))
    if is_inside(place, real):
        if place == real:
            raise InvalidRequestError(f"mv: '{printable(source)}' and '{printable(place)}' are the same file")
        raise InvalidRequestError(f"mv: cannot move '{printable(source)}' to a subdirectory of itself")
    try:
        os.rename(real, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(guard, real, place, dereference=False)
        _remove(real)


def remove(guard: PathGuard, path: str) -> None:
    """As `rm -r` does; a file system itself, or what holds the gateway's secrets, stays."""
    real = guard.locate(path)
    os.lstat(real)
    _refuse_if_kept(guard, real, "rm: refusing to remove")
    _remove(real)


def _remove(real: str) -> None:
    if os.path.islink(real) or not os.path.isdir(real):
        os.unlink(real)
        return
    waiting = [real]
    while waiting:
        check_cancelled()
        below = []
        with os.scandir(waiting[-1]) as entries:
            for each in entries:
                if each.is_dir(follow_symlinks=False):
                    below.append(each.path)
                else:
                    os.unlink(each.path)
        if below:
            waiting += below
        else:
            os.rmdir(waiting.pop())


def _destination(guard: PathGuard, source: str, target: str) -> str:
    """`target`, or the place of the same name inside it where it is a directory."""
    real = guard.follow(target)
    return os.path.join(real, os.path.basename(source)) if os.path.isdir(real) else target


def _refuse_if_kept(guard: PathGuard, real: str, refusal: str) -> None:
    if guard.must_stay(real):
        raise PermissionDeniedError(
            f"{refusal} '{printable(real)}': Operation not permitted",
            hint="It is a file system of this gateway, or holds the gateway's own files.",
        )
