"""The systems of a site as one file system of fsspec."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.caching import ReadAheadCache
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.core import has_magic
from fsspec.registry import register_implementation
from fsspec.utils import stringify_path

from crestline.client import System, connect
from crestline.client.files import Progress
from crestline.client.files.tree import MANIFEST
from crestline.client.remote_names import safe_relative
from crestline.fsspec.files import Blocks, Download, Draft, Text
from crestline.model import (
    ConflictError,
    File,
    FileMissingError,
    FileType,
    InvalidRequestError,
    PermissionDeniedError,
)
from crestline.single_flight import SingleFlight

_BLOCK = 8 * 1024 * 1024
_AT_ONCE = 4
"""number of concurrent transfers; a plain FirecREST has few sessions for one user"""


class FirecRESTFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """The systems of a site as an fsspec file system.

    A path is `<system>/<absolute path on it>`, or `<system>@<site>/...`.

    If the gateway serves byte ranges, files are read in blocks, else through a temporary file. Files are written to a
    temporary file, which is sent and verified when it is closed. Neither keeps a whole file in memory. `put` and `get`
    with `recursive=True` transfer a directory as one stream.

    Args:
        site: name of a site of the sites file. None: the site that a path names, else that of the `FIRECREST_*`
            variables, else the default site. Options contain no secrets, because fsspec prints options, stores them
            and sends them to other machines.

    Raises:
        OSError: from every method, as Python's `open` raises it: `FileNotFoundError`, `PermissionError`,
            `FileExistsError`, `IsADirectoryError`.
        CrestlineError: from every method, if the system cannot be reached or does not exist.

    Example::

        fs = fsspec.filesystem("firecrest", site="cscs")
        with fs.open("daint/scratch/ada/results.csv") as file:
            print(file.read())
    """

    protocol = "firecrest"
    cachable = True

    def __init__(self, site: str | None = None, **kwargs: Any) -> None:
        super().__init__(**{"batch_size": _AT_ONCE} | kwargs)
        self.site = site
        self._systems: SingleFlight[str, System] = SingleFlight()

    @property
    def fsid(self) -> str:
        return f"{self.protocol}-{self.site or ''}"

    @asynccontextmanager
    async def _on(self, path: str) -> AsyncIterator[tuple[System, str]]:
        """Open the system of a path and yield it with the path on it. Errors become those of Python's own files."""
        name, _, rest = self._strip_protocol(path).partition("/")
        if not name:
            raise FileNotFoundError(f"firecrest://{path} names no system: write firecrest://SYSTEM/PATH")
        system = await self._systems.get(name, lambda: self._opened(name))
        with _errors(path):
            yield system, "/" + rest

    async def _opened(self, name: str) -> System:
        """Open a connection for the lifetime of this object, so that a walk does not open one for each directory."""
        return await (await self._connected(name)).open()

    async def _connected(self, name: str) -> System:
        if "@" in name:
            return connect(name)
        return connect(self.site, system=name)

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        async with self._on(path) as (system, there):
            status = await system.stat(there)
            mode = status["mode"]
            kind = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
            return {
                "name": self._strip_protocol(path),
                "type": kind,
                "size": 0 if kind == "directory" else status["size"],
                "mode": mode,
                "mtime": status["mtime"],
                "uid": status["uid"],
                "gid": status["gid"],
                "ino": status["ino"],
                "nlink": status["nlink"],
            }

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        itself = await self._info(path)
        if itself["type"] != "directory":
            return [itself] if detail else [path]
        async with self._on(path) as (system, there):
            entries = await system.ls(there.rstrip("/") + "/", hidden=True)  # the slash follows a link
        found = [await self._described(path, entry) for entry in entries if safe_relative(entry.name)]
        return found if detail else [each["name"] for each in found]

    async def _described(self, directory: str, entry: File) -> dict[str, Any]:
        name = posixpath.join(directory, entry.name)
        if entry.type is FileType.LINK:
            try:
                return await self._info(name) | {"islink": True, "destination": entry.link_target}
            except FileNotFoundError:
                return {"name": name, "type": "other", "size": 0, "islink": True, "destination": entry.link_target}
        kinds = {FileType.FILE: "file", FileType.DIRECTORY: "directory"}
        kind = kinds.get(entry.type, "other")
        return {"name": name, "type": kind, "size": entry.size if kind == "file" else 0}

    async def _lexists(self, path: str) -> bool:
        """Return True if the path exists, also as a dangling link."""
        path = self._strip_protocol(path)
        try:
            return await self._exists(path) or path in await self._ls(posixpath.dirname(path), detail=False)
        except FileNotFoundError:
            return False

    def lexists(self, path: str, **kwargs: Any) -> bool:
        """Return True if the path exists, also as a dangling link (as `os.path.lexists`)."""
        found: bool = sync(self.loop, self._lexists, path)
        return found

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        async with self._on(path) as (system, there):
            if start is None and end is None:
                return await system.read_bytes(there)
            size = (await system.stat(there))["size"]
            first, last, _ = slice(start, end).indices(size)
            if system.supports_ranges:
                return await system.read_range(there, first, max(0, last - first))
            return (await system.read_bytes(there))[first:last]

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        async with self._on(path) as (system, there):
            if mode == "create" and await self._exists(path):
                raise FileExistsError(path)
            content = bytes(value)
            await _with_parents(system, there, lambda: system.write_bytes(there, content))

    async def _get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        async with self._on(rpath) as (system, there):
            if stat.S_ISDIR((await system.stat(there))["mode"]):
                os.makedirs(lpath, exist_ok=True)
                return
            if parent := os.path.dirname(lpath):
                os.makedirs(parent, exist_ok=True)
            await system.download(there, lpath)

    async def _put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **kwargs: Any) -> None:
        async with self._on(rpath) as (system, there):
            if os.path.isdir(lpath):
                await system.mkdir(there, parents=True)
                return
            await _with_parents(system, there, lambda: system.upload(lpath, there, exact=True))

    async def _put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> Any:
        whole = recursive and maxdepth is None and _is_one_path(lpath) and _is_one_path(rpath)
        if not (whole and os.path.isdir(lpath)):
            return await super()._put(lpath, rpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
        lpath, rpath = stringify_path(lpath), stringify_path(rpath)
        target = self._strip_protocol(rpath)
        if not lpath.endswith("/") and (rpath.endswith("/") or await self._isdir(rpath)):
            target = posixpath.join(target, os.path.basename(lpath))
        async with self._on(target) as (system, there):
            await system.mkdir(there, parents=True)
            await system.upload(lpath, there, progress=_reporting(callback))
            if not system.supports_ranges:  # the upload left a manifest, which only speeds up a later one
                with contextlib.suppress(FileMissingError):
                    await system.remove(posixpath.join(there, MANIFEST))

    async def _get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> Any:
        whole = recursive and maxdepth is None and _is_one_path(rpath) and _is_one_path(lpath)
        if not (whole and await self._isdir(rpath)):
            return await super()._get(rpath, lpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
        rpath, lpath = stringify_path(rpath), stringify_path(lpath)
        target = Path(lpath)
        if not rpath.endswith("/") and (lpath.endswith("/") or target.is_dir()):
            target /= posixpath.basename(rpath)
        target.mkdir(parents=True, exist_ok=True)
        async with self._on(rpath) as (system, there):
            await system.download(there, target, progress=_reporting(callback))

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        async with self._on(path1) as (source, there):
            status = await source.stat(there)
            async with self._on(path2) as (target, place):
                if target is not source:  # systems of two sites may have one name
                    await self._copy_across(source, there, target, place)
                elif stat.S_ISDIR(status["mode"]):
                    await target.mkdir(place, parents=True)
                else:
                    await target.mkdir(posixpath.dirname(place), parents=True)
                    await source.copy(there, place)

    async def _copy_across(self, source: System, there: str, target: System, place: str) -> None:
        """Copy a file from one system to another through this machine's disk."""
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = os.path.join(directory, "content")
            await source.download(there, copy)
            await target.upload(copy, place)

    async def _mv_file(self, path1: str, path2: str) -> None:
        async with self._on(path1) as (source, there), self._on(path2) as (target, place):
            if target is source:
                await source.move(there, place)
                return
        await self._cp_file(path1, path2)
        await self._rm_file(path1)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move a file or a directory. Within one system this is a rename."""
        one, other = (self._strip_protocol(path).partition("/")[0] for path in (path1, path2))
        if one == other:
            sync(self.loop, self._mv_file, path1, path2)
        else:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        async with self._on(path) as (system, there):
            if stat.S_ISDIR((await system.stat(there))["mode"]):
                raise IsADirectoryError(path)
            await system.remove(there)

    async def _rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None, **kw: Any) -> None:
        for each in await self._expand_path([path] if isinstance(path, str) else path):
            if recursive:
                async with self._on(each) as (system, there):
                    await system.remove(there)
            else:
                await self._rm_file(each)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        async with self._on(path) as (system, there):
            if await self._exists(path):
                raise FileExistsError(path)
            await system.mkdir(there, parents=create_parents)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            await self._mkdir(path)
        except FileExistsError:
            if not exist_ok or (await self._info(path))["type"] != "directory":
                raise

    async def _rmdir(self, path: str) -> None:
        async with self._on(path) as (system, there):
            if await system.ls(there, hidden=True):
                raise OSError(f"{path} is not empty")
            await system.remove(there)

    rmdir = sync_wrapper(_rmdir)

    async def _touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        if truncate or not await self._exists(path):
            await self._pipe_file(path, b"")

    touch = sync_wrapper(_touch)

    async def _checksum(self, path: str) -> int:
        async with self._on(path) as (system, there):
            return int(await system.checksum(there), 16)

    checksum = sync_wrapper(_checksum)

    async def _modified(self, path: str) -> Any:
        return datetime.fromtimestamp((await self._info(path))["mtime"], UTC)

    modified = sync_wrapper(_modified)

    def ukey(self, path: str) -> str:
        """Return a text that changes when the file's content does."""
        info = self.info(path)
        return f"{info['ino']}-{info['size']}-{info['mtime']}"

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """As `open` of Python; what is written appears when the file is closed."""
        if "b" in mode:
            return super().open(path, mode, **kwargs)
        text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
        return Text(self.open(path, mode.replace("t", "") + "b", **kwargs), **text)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True, **kwargs: Any
    ) -> Any:
        if mode == "rb":
            return sync(self.loop, self._reader, path, block_size or _BLOCK)
        if mode not in ("wb", "xb", "ab"):
            raise ValueError(f"A file on a system cannot be opened with mode {mode!r}.")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        draft = Draft(self, path, autocommit=autocommit)
        if mode == "ab" and self.exists(path):
            with self._open(path) as old:
                shutil.copyfileobj(old, draft, _BLOCK)
        return draft

    async def _reader(self, path: str, block_size: int) -> Any:
        async with self._on(path) as (system, there):
            status = await system.stat(there)
            if stat.S_ISDIR(status["mode"]):
                raise IsADirectoryError(path)
            if system.supports_ranges:
                return Blocks(self, path, block_size=block_size, size=status["size"], cache_type=ReadAheadCache.name)
            with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
                copy = os.path.join(directory, "content")
                await system.download(there, copy)
                return Download(self, path, copy)  # the name goes at once, the content with the last reader


async def _with_parents(system: System, path: str, write: Callable[[], Awaitable[object]]) -> None:
    """Write a file. If its directory does not exist, create it first."""
    try:
        await write()
    except FileMissingError:
        await system.mkdir(posixpath.dirname(path), parents=True)
        await write()


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileMissingError as error:
        raise FileNotFoundError(str(error)) from error
    except PermissionDeniedError as error:
        raise PermissionError(str(error)) from error
    except ConflictError as error:
        raise FileExistsError(str(error)) from error
    except InvalidRequestError as error:
        said = str(error).casefold()
        kinds = {"is a directory": IsADirectoryError, "not a directory": NotADirectoryError}
        kind = next((kind for words, kind in kinds.items() if words in said), OSError)
        raise kind(f"{path}: {error}") from error


def _is_one_path(path: Any) -> bool:
    """Return True for a single path without wildcards."""
    return not isinstance(path, list) and not has_magic(stringify_path(path))


def _reporting(callback: Callback) -> Progress:
    def report(done: int, total: int, name: str) -> None:
        callback.set_size(total)
        callback.absolute_update(done)

    return report


# `UPath` splits paths only with implementations that are already loaded.
register_implementation(FirecRESTFileSystem.protocol, FirecRESTFileSystem, clobber=True)
