"""Files of several directories together, in one stream each way.

What belongs to many small pieces of work at once (the stage directories of a test suite) costs a request or two,
however many they are. On a Crestline gateway that is a tar stream; on plain FirecREST an archive that is packed or
unpacked there.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import anyio
import msgspec
from anyio.to_thread import run_sync

from crestline.client.backends.base import Backend
from crestline.client.backends.messages import BundleFilter
from crestline.client.files.archive import StreamReader, make_link, unpack, write_gzip
from crestline.client.files.backoff import Backoff
from crestline.client.files.download_file import download_file
from crestline.client.files.links import MapLink, map_link
from crestline.client.files.local import CHUNK, changed_error
from crestline.client.files.report import Meter
from crestline.client.files.strategy import ALONE, FileStrategy, Unpack
from crestline.client.files.tree import list_tree
from crestline.client.files.upload_file import upload_file
from crestline.client.remote_names import check_remote, safe_relative, temporary_name
from crestline.model import (
    CrestlineError,
    File,
    FileMissingError,
    FileType,
    GatewayUnavailableError,
    RateLimitedError,
    TooLargeError,
    TransferError,
)

_log = logging.getLogger("crestline.files")

_PASSING = (GatewayUnavailableError, RateLimitedError)
_END = bytes(2 * tarfile.BLOCKSIZE)


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, a link or a directory to upload with `System.upload_bundle`.

    >>> BundleFile(path="inputs/Si.cif", source=Path("Si.cif")).path
    'inputs/Si.cif'
    """

    path: str
    """path relative to the remote directory"""
    source: Path | None = None
    """the local file; None for a directory, or for a link if `link_target` is set"""
    link_target: str = ""
    """target of a link"""
    is_shared: bool = False
    """True for a read-only file; of shared files with equal content one is sent, and the others link to it"""


async def upload_bundle(
    strategy: FileStrategy,
    remote: str,
    members: Sequence[BundleFile],
    *,
    retry_timeout: float = 45.0,
    cleanup: bool = True,
) -> int:
    """Upload files below the existing directory `remote`, and return the number of bytes sent.

    Args:
        strategy: the transfer methods of the system; `System.upload_bundle` supplies them.
        remote: absolute path of the directory.
        members: the files, links and directories.
        retry_timeout: seconds to retry after temporary failures.
        cleanup: False saves a request on plain FirecREST, but leaves its archive below `remote`.

    Raises:
        CrestlineError: the upload failed for longer than `retry_timeout`.
    """
    remote = check_remote(remote)
    in_stream, alone = list(members), []
    if strategy.streams_trees:
        alone = [(each.path, each.source) for each in members if each.source and each.source.stat().st_size > ALONE]
        paths = {path for path, _ in alone}
        in_stream = [each for each in members if each.path not in paths]
    outages, damages = Backoff(timeout=retry_timeout), Backoff()
    packed = await run_sync(_Packing, in_stream)
    while True:
        try:
            await strategy.unpack_remote(remote, packed.pieces(), cleanup=cleanup)
            break
        except _PASSING as error:
            await outages.wait(error)
        except TransferError as error:
            await damages.wait(error)
    for path, source in alone:
        await upload_file(strategy, source, posixpath.join(remote, path), Meter(None))
    return packed.size + sum(source.stat().st_size for _, source in alone)


async def download_bundle(
    strategy: FileStrategy,
    remote: str,
    selections: Sequence[BundleFilter],
    *,
    retry_timeout: float = 45.0,
    cleanup: bool = True,
    map_link: MapLink = map_link,
) -> dict[str, list[str]]:
    """Download files from directories below `remote`. Every file appears complete or not at all, and replaces a local
    one.

    Args:
        strategy: the transfer methods of the system; `System.download_bundle` supplies them.
        remote: absolute path of the directory.
        selections: which files of which directories to fetch.
        retry_timeout: seconds to retry after temporary failures.
        cleanup: False saves a request on plain FirecREST, but leaves its archive below `remote`.
        map_link: called in a thread with the path of a link relative to its selection's directory, its target, and the
            absolute path of that directory. Returns the target of the local link, or None to omit it. The default
            keeps links that stay in the directory.

    Returns:
        for each directory the paths of the fetched files.

    Raises:
        CrestlineError: the download failed for longer than `retry_timeout`.
    """
    remote = check_remote(remote)
    outages, damages = Backoff(timeout=retry_timeout), Backoff()
    while True:
        came: dict[str, list[str]] = {each.directory: [] for each in selections}
        try:
            unpack_here = partial(_unpack_local, remote, selections, came, map_link)
            await strategy.fetch_selected(remote, selections, unpack_here, cleanup=cleanup)
        except _PASSING as error:
            await outages.wait(error)
        except TransferError as error:
            await damages.wait(error)
        else:
            break
    if not strategy.packs_links:
        await _fetch_links(strategy.backend, remote, selections, came, map_link)
    return came


class _Packing:
    """The members as a tar archive that can be made again for another try."""

    def __init__(self, members: Iterable[BundleFile]) -> None:
        self._members: list[tuple[BundleFile, str]] = []
        """with the path of the earlier member that has the same content"""
        self.size = 0
        first: dict[str, str] = {}
        for each in members:
            earlier = first.setdefault(digest, each.path) if (digest := self._digest(each)) else each.path
            self._members.append((each, earlier if earlier != each.path else ""))
            if each.source is not None and earlier == each.path:
                self.size += each.source.stat().st_size

    @staticmethod
    def _digest(member: BundleFile) -> str:
        if member.source is None or not member.is_shared:
            return ""
        with member.source.open("rb") as file:
            executable = member.source.stat().st_mode & 0o100
            return hashlib.file_digest(file, "sha256").hexdigest() + ("x" if executable else "")

    def pieces(self) -> Iterator[bytes]:
        for member, earlier in self._members:
            info = tarfile.TarInfo(safe_relative(member.path))
            if member.source is None:
                info.type = tarfile.SYMTYPE if member.link_target else tarfile.DIRTYPE
                info.linkname, info.mode = member.link_target, 0o755
                yield info.tobuf(tarfile.PAX_FORMAT, "utf-8")
                continue
            status = member.source.stat()
            info.mode, info.mtime = status.st_mode & 0o777, int(status.st_mtime)
            if not earlier:
                info.size = status.st_size
                yield info.tobuf(tarfile.PAX_FORMAT, "utf-8")
                yield from _content(member.source, status.st_size)
            else:
                info.type, info.linkname = tarfile.LNKTYPE, earlier
                yield info.tobuf(tarfile.PAX_FORMAT, "utf-8")
        yield _END


def _content(source: Path, size: int) -> Iterator[bytes]:
    left = size
    with source.open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise changed_error(source)
            left -= len(chunk)
            yield chunk
    yield bytes(-size % tarfile.BLOCKSIZE)


async def unpack_archive(strategy: FileStrategy, remote: str, pieces: Iterator[bytes], *, cleanup: bool) -> None:
    """Send a tar archive to plain FirecREST and let it be unpacked in `remote`."""
    archive = posixpath.join(remote, temporary_name(".tar.gz"))
    with tempfile.NamedTemporaryFile(prefix="crestline-", suffix=".tar.gz") as file:
        await run_sync(write_gzip, file, pieces)
        file.flush()
        size = file.tell()
        try:
            if size <= strategy.backend.max_direct_upload:  # gzip's own checksum tells whether it came whole
                content = await anyio.Path(file.name).read_bytes()
                await strategy.backend.files.upload_small(remote, posixpath.basename(archive), content)
            else:
                await upload_file(strategy, Path(file.name), archive, Meter(None))
            await strategy.finish(await strategy.backend.files.extract(archive, remote))
        finally:
            if cleanup:
                with anyio.CancelScope(shield=True):
                    await strategy.remove_if_exists(archive)


async def fetch_archive(
    strategy: FileStrategy, remote: str, selections: Sequence[BundleFilter], unpack_here: Unpack, *, cleanup: bool
) -> None:
    """Let plain FirecREST pack what is selected, fetch the archive and unpack it."""
    archive = posixpath.join(remote, temporary_name(".tar.gz"))
    try:
        try:
            await strategy.finish(
                await strategy.backend.files.compress(remote, archive, pattern=_expression(remote, selections))
            )
        except CrestlineError as error:
            if "empty archive" in f"{error} {error.details}":
                return
            raise
        status = await strategy.backend.files.stat(archive)
        with tempfile.TemporaryDirectory(prefix="crestline-") as place:
            local = Path(place) / "archive.tar.gz"
            if status["size"] <= strategy.backend.max_direct_download:
                await anyio.Path(local).write_bytes(await strategy.backend.files.download_small(archive))
            else:
                await download_file(strategy, archive, status, local, Meter(None))
            with local.open("rb") as file:
                await run_sync(unpack_here, file, True)
    finally:
        if cleanup:
            with anyio.CancelScope(shield=True):
                await strategy.remove_if_exists(archive)


async def _fetch_links(
    backend: Backend, remote: str, selections: Sequence[BundleFilter], came: dict[str, list[str]], map_link: MapLink
) -> None:
    """Make the symbolic links that were selected, from a listing: what is packed by a pattern holds only files."""
    incomplete = [each for each in selections if not _is_complete(each, came[each.directory])]
    if not incomplete:
        return
    try:
        links = await _list_links(backend, remote, incomplete)
    except CrestlineError as error:
        _log.warning("Symbolic links below %s were left out, since they could not be listed: %s", remote, error)
        return
    for each in incomplete:
        root = posixpath.join(remote, each.directory)
        for path, link in sorted(links[each.directory].items()):
            if each.since is None and not any(fnmatch.fnmatchcase(path, pattern) for pattern in each.patterns):
                continue
            if (target := map_link(path, link.link_target or "", root)) is not None:
                await run_sync(make_link, each.target, path, target)
                came[each.directory].append(path)


def _is_complete(selection: BundleFilter, came: list[str]) -> bool:
    """Whether every file that was selected came, so that no link can be missing."""
    return selection.since is None and set(selection.patterns) <= set(came)


async def _list_links(backend: Backend, remote: str, selections: Sequence[BundleFilter]) -> dict[str, dict[str, File]]:
    """The links of each directory, by their paths below it; in one request if one answer holds all."""
    found: dict[str, dict[str, File]] = {each.directory: {} for each in selections}
    if len(selections) > 1:
        try:
            files = (await list_tree(backend, remote, in_levels=False)).files
        except (TooLargeError, GatewayUnavailableError):
            pass  # the directories of others are in there, too
        else:
            for path, file in files.items():
                directory = next((each for each in _above(path) if each in found), None)
                if file.type is FileType.LINK and directory is not None:
                    found[directory][path[len(directory) + 1 :]] = file
            return found
    for directory, links in found.items():
        with suppress(FileMissingError):
            files = (await list_tree(backend, posixpath.join(remote, directory))).files
            links |= {path: file for path, file in files.items() if file.type is FileType.LINK}
    return found


def _unpack_local(
    remote: str,
    selections: Sequence[BundleFilter],
    came: dict[str, list[str]],
    map_link: MapLink,
    source: StreamReader | IO[bytes],
    packed: bool,
) -> None:
    targets = {each.directory: each for each in selections}
    ages = {posixpath.join(each.directory, each.since) for each in selections if each.since}
    """the files by whose age others are chosen"""

    def locate(path: str) -> tuple[Path, str] | None:
        """The selection's directory and the path below it."""
        directory = path
        while directory := posixpath.dirname(directory):
            if directory in targets:
                return targets[directory].target, path[len(directory) + 1 :]
        return None

    for each in selections:
        each.target.mkdir(parents=True, exist_ok=True)
    names = unpack(
        source,
        Path(),
        lambda path: locate(path) is not None and path not in ages,
        lambda count, name: None,
        compressed=packed,
        skip_first=packed,
        locate=locate,
        there=remote,
        map_link=map_link,
    )
    for path in names:
        directory = next(each for each in _above(path) if each in targets)
        came[directory].append(path[len(directory) + 1 :])


def _above(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _expression(remote: str, selections: Iterable[BundleFilter]) -> str:
    """What find(1) takes as `-regex` in the directory above `remote`."""
    parts = []
    for each in selections:
        names = [".*"] if each.since is not None else [_from_shell(pattern) for pattern in each.patterns]
        parts += [f"{_literal(each.directory)}/{name}" for name in names]
    joined = "\\|".join(parts)
    return f"\\./{_literal(posixpath.basename(remote))}/\\({joined}\\)"


def _literal(text: str) -> str:
    return re.sub(r"([.\[\]*+?^$\\])", r"\\\1", text)


def _from_shell(pattern: str) -> str:
    """A shell's pattern in the syntax of find(1)'s default, that of Emacs; sets of characters match any one."""
    pieces = []
    for piece in re.findall(r"\[[^\]]+\]|.", pattern):
        if piece == "*":
            pieces.append(".*")
        elif piece == "?" or len(piece) > 1:
            pieces.append(".")
        else:
            pieces.append(_literal(piece))
    return "".join(pieces)
