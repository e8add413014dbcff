"""Opens files below the served file systems. All paths of this machine pass through this module.

A path is resolved and opened in one step, relative to descriptors of directories. Therefore it has no effect if another
process replaces a directory or file meanwhile: only this module follows links, and only to served targets.
`openat2(2)` does this in the kernel (Linux 5.6). If the kernel lacks it, or a link leads from one tree into another,
the module walks the path name by name and opens each with `O_NOFOLLOW`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from crestline.gateway.paths import PathGuard, is_inside

_SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
"""Maximum number of links in one path, as in the kernel."""
_MAX_HELD = 64
"""Maximum number of parent directories that a walk keeps open."""

P = ParamSpec("P")
T = TypeVar("T")


class Directory:
    """An open directory. Methods take names literally and never follow a link at the end."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path = path
        """Path at the time of opening, for messages."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory. A second call has no effect."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def path_of(self, name: str) -> str:
        """Return the path of a name in it, for messages."""
        return self.path if name == "." else f"{self.path.rstrip('/')}/{name}"

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """open(2). A link with this name is an error."""
        return self._do(name, os.open, name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._descriptor)

    def enter(self, name: str) -> Directory:
        """Open the directory `name` for reading."""
        return Directory(self._do(name, os.open, name, _READ, dir_fd=self._descriptor), self.path_of(name))

    def names(self) -> list[str]:
        """Return all names in it, sorted. It must be open for reading."""
        return sorted(self._do(".", os.listdir, self._descriptor))

    def lstat(self, name: str) -> os.stat_result:
        """lstat(2)."""
        return self._do(name, os.stat, name, dir_fd=self._descriptor, follow_symlinks=False)

    def exists(self, name: str) -> bool:
        """Whether the name exists, including as a dangling link."""
        try:
            self.lstat(name)
        except FileNotFoundError:
            return False
        return True

    def is_writable(self, name: str) -> bool:
        """Whether access(2) allows writing."""
        return os.access(name, os.W_OK, dir_fd=self._descriptor)

    def readlink(self, name: str) -> str:
        """readlink(2)."""
        return self._do(name, os.readlink, name, dir_fd=self._descriptor)

    def mkdir(self, name: str, mode: int = 0o777) -> None:
        """mkdir(2)."""
        self._do(name, os.mkdir, name, mode, dir_fd=self._descriptor)

    def symlink(self, target: str, name: str) -> None:
        """symlink(2)."""
        self._do(name, os.symlink, target, name, dir_fd=self._descriptor)

    def unlink(self, name: str) -> None:
        """unlink(2)."""
        self._do(name, os.unlink, name, dir_fd=self._descriptor)

    def rmdir(self, name: str) -> None:
        """rmdir(2)."""
        self._do(name, os.rmdir, name, dir_fd=self._descriptor)

    def chmod(self, name: str, mode: int) -> None:
        """chmod(2). A link is an error."""
        if not hasattr(os, "O_PATH"):
            self._do(name, os.chmod, name, mode, dir_fd=self._descriptor, follow_symlinks=False)
            return
        descriptor = self.open(name, os.O_PATH)
        try:
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path_of(name))
            # Linux has no fchmodat that does not follow links
            self._do(name, os.chmod, f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)

    def chown(self, name: str, uid: int, gid: int) -> None:
        """lchown(2)."""
        self._do(name, os.chown, name, uid, gid, dir_fd=self._descriptor, follow_symlinks=False)

    def utime(self, name: str, seconds: float) -> None:
        """Set access and modification time, in seconds since the epoch, without following a link."""
        self._do(name, os.utime, name, (seconds, seconds), dir_fd=self._descriptor, follow_symlinks=False)

    def rename(self, name: str, directory: Directory, new_name: str) -> None:
        """rename(2) to a name in `directory`."""
        there = directory._descriptor
        self._do(name, os.rename, name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=there)

    def link(self, name: str, directory: Directory, new_name: str) -> None:
        """link(2) to a name in `directory`."""
        there = directory._descriptor
        self._do(name, os.link, name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=there, follow_symlinks=False)

    def link_descriptor(self, descriptor: int, name: str) -> None:
        """Give an open file without a name the name `name`."""
        source = f"/proc/self/fd/{descriptor}"
        self._do(name, os.link, source, name, dst_dir_fd=self._descriptor, follow_symlinks=True)

    def free_bytes(self) -> int:
        """Return the free bytes of its file system."""
        status = self._do(".", os.fstatvfs, self._descriptor)
        return status.f_bavail * status.f_frsize

    def is_at_or_below(self, status: os.stat_result) -> bool:
        """Whether the directory is the one with this status, or below it."""
        at = os.dup(self._descriptor)
        try:
            while True:
                here = os.fstat(at)
                if os.path.samestat(here, status):
                    return True
                above = os.open("..", _SEARCH, dir_fd=at)
                os.close(at)
                at = above
                if os.path.samestat(os.fstat(at), here):  # the root directory
                    return False
        finally:
            os.close(at)

    def _do(self, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except OSError as error:  # a mount that only its name identifies
            error.filename, error.filename2 = self.path_of(name), None
            raise


class Place:
    """A name in an open directory: the target of a path. It need not exist."""

    __slots__ = ("directory", "name")

    def __init__(self, directory: Directory, name: str) -> None:
        self.directory = directory
        self.name = name

    @property
    def path(self) -> str:
        """Path for messages."""
        return self.directory.path_of(self.name)


class ServedTrees:
    """The file systems of a guard on this machine."""

    def __init__(self, guard: PathGuard) -> None:
        self._guard = guard
        self.check = guard.check
        roots = [(root, os.path.realpath(root)) for root in guard.roots]
        real = sorted({real for _, real in roots}, key=len)
        # A tree below another one is reached through the outer one, because users of that one can replace its path.
        self._roots = [root for root in real if not any(is_inside(root, other) for other in real if other != root)]
        self._names = sorted(roots, key=lambda each: len(each[0]), reverse=True)

    @contextmanager
    def locate(self, path: str, *, follow: bool = False) -> Iterator[Place]:
        """Resolve `path`; with `follow`, also a link at its end.

        Raises:
            InvalidRequestError: the path is outside the served file systems.
            OSError: a directory of the path does not exist, or is not a directory.
        """
        place = self.open_parent(path, follow=follow)
        try:
            yield place
        finally:
            place.directory.close()

    def open_parent(self, path: str, *, follow: bool = False) -> Place:
        """As `locate`, but the caller closes the directory."""
        path = self._guard.check(path)
        root, below = self._split(path)
        above, _, name = below.rpartition("/")
        descriptor = _open_beneath(root, above) if below else None
        if descriptor is not None:
            place = Place(Directory(descriptor, os.path.dirname(path)), name)
            if not (follow and _is_link(place)):
                return place
            place.directory.close()
        return self._walk(path, follow)

    def directory(self, path: str) -> Directory:
        """Open the directory at `path` for reading."""
        with self.locate(path, follow=True) as place:
            found = place.directory.enter(place.name)
            found.path = self._guard.check(path)
            return found

    def make_directory(self, path: str) -> tuple[Directory, int]:
        """Create the directory `path` with its missing parents, and return it open for reading with the number
        created."""
        absent: list[str] = []
        made = 0
        while True:
            try:
                directory = self.directory(path)
            except FileNotFoundError:
                absent.append(path)
                path = os.path.dirname(path)
                if not absent[-1].strip("/"):
                    raise
                continue
            except NotADirectoryError as error:
                with self.locate(path) as place:
                    if place.directory.exists(place.name):
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
                raise
            break
        for each in reversed(absent):
            name = os.path.basename(each)
            try:
                directory.mkdir(name)
                made += 1
            except FileExistsError:
                pass  # it exists by now, or it is not a directory, which `enter` reports
            except BaseException:
                directory.close()
                raise
            with directory:
                below = directory.enter(name)
            directory = below
        return directory, made

    def holds_a_root(self, place: Place) -> bool:
        """Whether a served file system is at this place or below it, so that it must not be removed or renamed."""
        status = place.directory.lstat(place.name)
        for root in {*self._roots, *(real for _, real in self._names)}:
            try:
                descriptor = os.open(root, _SEARCH)
            except OSError:
                continue  # not mounted
            with Directory(descriptor, root) as directory:
                if directory.is_at_or_below(status):
                    return True
        return False

    def _split(self, path: str) -> tuple[str, str]:
        """Return the outermost tree that contains an absolute path, and the path below it."""
        named = [f"{real}{path[len(root.rstrip('/')) :]}" for root, real in self._names if is_inside(path, root)]
        for candidate in (named[0] if named else path, os.path.realpath(path)):  # `/home` may be a link to `/users`
            for root in self._roots:
                if is_inside(candidate, root):
                    return root, candidate[len(root) :].strip("/")
        raise self._guard.outside(path)

    def _walk(self, path: str, follow: bool) -> Place:
        """Resolve a path as the kernel does, except links to another tree and links that leave the trees."""
        root, below = self._split(path)
        held = _Held(root)
        waiting = below.split("/")[::-1] if below else []
        links = 0
        try:
            while waiting:
                name = waiting.pop()
                if name == "..":
                    if held.ascend():
                        continue
                    link = os.path.join(os.path.dirname(root), *waiting[::-1])
                    waiting = []
                else:
                    found = held.enter(name, last=not waiting, follow=follow)
                    if found is None:
                        continue
                    if not isinstance(found, str):
                        return Place(Directory(held.detach(), os.path.dirname(path)), name)
                    link = found
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if link.startswith("/"):
                    held.close()
                    root, below = self._split(link)
                    held = _Held(root)
                    link = below
                waiting += [each for each in link.split("/")[::-1] if each not in ("", ".")]
            return Place(Directory(held.detach(), path), ".")
        except OSError as error:
            error.filename = path
            raise
        finally:
            held.close()


class _Held:
    """The directories of a walk, from a root down. The last few are open."""

    def __init__(self, root: str) -> None:
        self._open = deque([os.open(root, _SEARCH)])
        self._closed = 0

    def enter(self, name: str, *, last: bool, follow: bool) -> str | bool | None:
        """Descend into `name` and return None. For a link, return its target. Return True if it is the end of the
        path."""
        if last and not follow:
            return True
        try:
            return os.readlink(name, dir_fd=self._open[-1])
        except FileNotFoundError:
            if last:
                return True
            raise
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        if last:
            return True
        self._open.append(os.open(name, _SEARCH | os.O_NOFOLLOW, dir_fd=self._open[-1]))
        if len(self._open) > _MAX_HELD:
            os.close(self._open.popleft())
            self._closed += 1
        return None

    def ascend(self) -> bool:
        """Ascend; return False at the root."""
        if len(self._open) > 1:
            os.close(self._open.pop())
            return True
        if self._closed:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return False

    def detach(self) -> int:
        """Return the descriptor of the current directory, which the caller closes."""
        return self._open.pop()

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


def _is_link(place: Place) -> bool:
    try:
        return stat.S_ISLNK(place.directory.lstat(place.name).st_mode)
    except FileNotFoundError:
        return False


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2 = 437  # on every architecture except alpha
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_HOW = _OpenHow(_SEARCH, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _open_beneath(root: str, below: str) -> int | None:
    """Open the directory `below` a root by openat2(2); None if only a walk can resolve it."""
    top = os.open(root, _SEARCH)
    if not below:
        return top
    try:
        if _libc is None:
            return None
        found: int = _libc.syscall(
            _OPENAT2, top, os.fsencode(below), ctypes.byref(_HOW), ctypes.c_size_t(ctypes.sizeof(_HOW))
        )
        if found >= 0:
            return found
        number = ctypes.get_errno()
        # A link that leaves the tree, a renamed directory, an old kernel, or a sandbox without this call.
        if number in (errno.EXDEV, errno.ELOOP, errno.EAGAIN, errno.ENOSYS, errno.EPERM):
            return None
        raise OSError(number, os.strerror(number), f"{root.rstrip('/')}/{below}")
    finally:
        os.close(top)
