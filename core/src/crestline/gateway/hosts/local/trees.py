"""Copies, moves and removes whole trees."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from crestline.gateway.hosts.local.beneath import Directory, Place, ServedTrees
from crestline.gateway.hosts.local.content import blocks_of, check_target, open_regular, replacing, write_all
from crestline.gateway.hosts.local.walk import Chain, Visit, walk
from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError, PermissionDeniedError


def copy(trees: ServedTrees, source: str, target: str, temporary: str, *, dereference: bool) -> None:
    """Copy as `cp -r` does, each file atomically: into `target` if that is a directory."""
    with trees.locate(source, follow=dereference) as original:
        status = original.directory.lstat(original.name)
        place = _destination(trees, source, target)
        with place.directory:
            if stat.S_ISDIR(status.st_mode) and place.directory.is_at_or_below(status):
                raise InvalidRequestError(f"cp: cannot copy a directory, '{printable(source)}', into itself")
            if _is_same(place, status):
                raise _is_same_file("cp", source, place)
            _copy(trees if dereference else None, original, place, temporary)


def _copy(follow: ServedTrees | None, original: Place, place: Place, temporary: str) -> None:
    modes: dict[str, int] = {}
    # A separate descriptor, which the chain closes.
    with Chain(Directory(os.dup(place.directory.fileno()), place.directory.path)) as chain:
        for visit in walk(original.directory, original.name, follow=follow):
            name = os.path.basename(visit.below) if visit.below else place.name
            if visit.loops:
                raise InvalidRequestError(f"cp: a link leads back to '{printable(visit.path)}'")
            if not visit.is_directory:
                _copy_one(visit, Place(chain.current, name), temporary)
            elif visit.leaving:
                chain.up()
                if (mode := modes.pop(visit.below, None)) is not None:
                    chain.current.chmod(name, mode)  # last, because the mode may forbid writing
            else:
                if make_directory(chain.current, name):
                    modes[visit.below] = stat.S_IMODE(visit.status.st_mode)
                chain.down(chain.current.enter(name))


def _copy_one(visit: Visit, place: Place, temporary: str) -> None:
    mode = visit.status.st_mode
    if stat.S_ISLNK(mode):
        points_to = visit.directory.readlink(visit.name)
        if place.directory.exists(place.name) and stat.S_ISLNK(place.directory.lstat(place.name).st_mode):
            place.directory.unlink(place.name)
        place.directory.symlink(points_to, place.name)
        return
    if not stat.S_ISREG(mode):
        raise InvalidRequestError(f"cp: '{printable(visit.path)}' is neither a file, a directory nor a link")
    descriptor = open_regular(visit.directory, visit.name)
    try:
        check_target(place)
        kept = None if place.directory.exists(place.name) else stat.S_IMODE(mode)
        with replacing(place, temporary, kept) as written:
            offset = 0
            for block in blocks_of(descriptor):
                write_all(written, block, offset)
                offset += len(block)
    finally:
        os.close(descriptor)


def make_directory(directory: Directory, name: str) -> bool:
    """Create a directory unless it exists, and return whether it was created."""
    try:
        directory.mkdir(name)
    except FileExistsError:
        if not stat.S_ISDIR(directory.lstat(name).st_mode):
            raise
        return False
    return True


def move(trees: ServedTrees, source: str, target: str, temporary: str) -> None:
    """Move as `mv` does: into `target` if that is a directory, and across file systems as a copy and a removal."""
    with trees.locate(source) as original:
        status = original.directory.lstat(original.name)
        _refuse_if_protected(trees, original, "mv: refusing to move")
        place = _destination(trees, source, target)
        with place.directory:
            if stat.S_ISDIR(status.st_mode) and place.directory.is_at_or_below(status):
                raise InvalidRequestError(f"mv: cannot move '{printable(source)}' to a subdirectory of itself")
            if _is_same(place, status):
                raise _is_same_file("mv", source, place)
            try:
                original.directory.rename(original.name, place.directory, place.name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _copy(None, original, place, temporary)
                _remove(original)


def remove(trees: ServedTrees, path: str) -> None:
    """Remove as `rm -r` does. The root of a file system is never removed."""
    with trees.locate(path) as place:
        place.directory.lstat(place.name)
        _refuse_if_protected(trees, place, "rm: refusing to remove")
        _remove(place)


def remove_named(trees: ServedTrees, path: str, name: str) -> None:
    """Remove the files with this name beside `path` and below it."""
    with trees.locate(path, follow=True) as place:
        _unlink(place.directory, name)
        if not place.directory.exists(place.name):
            return
        for visit in walk(place.directory, place.name):
            if visit.name == name and not visit.is_directory:
                _unlink(visit.directory, name)


def _unlink(directory: Directory, name: str) -> None:
    with suppress(FileNotFoundError):
        directory.unlink(name)


def _remove(place: Place) -> None:
    for visit in walk(place.directory, place.name):
        if not visit.is_directory:
            visit.directory.unlink(visit.name)
        elif visit.leaving:
            visit.directory.rmdir(visit.name)


def _destination(trees: ServedTrees, source: str, target: str) -> Place:
    """Return `target`, or the place of the same name in it if it is a directory. The caller closes its directory."""
    place = trees.open_parent(target, follow=True)
    try:
        inside = place.directory.enter(place.name)
    except (FileNotFoundError, NotADirectoryError):
        return place
    except BaseException:
        place.directory.close()
        raise
    place.directory.close()
    return Place(inside, os.path.basename(trees.check(source)))


def _is_same(place: Place, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.directory.lstat(place.name), status)
    except FileNotFoundError:
        return False


def _is_same_file(command: str, source: str, place: Place) -> InvalidRequestError:
    return InvalidRequestError(f"{command}: '{printable(source)}' and '{printable(place.path)}' are the same file")


def _refuse_if_protected(trees: ServedTrees, place: Place, refusal: str) -> None:
    if trees.holds_a_root(place):
        raise PermissionDeniedError(
            f"{refusal} '{printable(place.path)}': Operation not permitted", hint="It is a file system of this gateway."
        )
