"""A directory from the system: what differs comes as one tar stream, or file by file where that is less."""

from __future__ import annotations

import os
import posixpath
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import IO

from anyio.to_thread import run_sync

from crestline.client.backends.messages import BundleFilter, TransferMethod
from crestline.client.files.archive import StreamReader, make_link, temp_path_for, unpack
from crestline.client.files.archive_job import ArchiveJob, Note, fingerprint
from crestline.client.files.backoff import Backoff
from crestline.client.files.compare import is_ambiguous, unchanged_on_firecrest, unchanged_on_gateway
from crestline.client.files.download_file import begin_download, download_file
from crestline.client.files.failures import REFUSED
from crestline.client.files.links import map_link
from crestline.client.files.local import make_executable, sha256
from crestline.client.files.manifest import read_manifest
from crestline.client.files.parallel import run_parallel
from crestline.client.files.report import Meter, TransferReport
from crestline.client.files.strategy import ALONE, FileStrategy, Later, TreeDownload
from crestline.client.files.tree import MANIFEST, Listing, is_executable, list_tree, scan
from crestline.client.remote_names import is_temporary, needs_transfer_job, remote_stat, spellings
from crestline.client.streams import closing
from crestline.model import (
    FileMissingError,
    FileType,
    GatewayUnavailableError,
    PermissionDeniedError,
    RateLimitedError,
    TransferError,
)

_INCOMPLETE = re.compile(r"exit status:[12]\b.*\btar: ")
"""what FirecREST says where tar packed all but what it could not read"""

_UNREADABLE = "\ufffd"
"""stands in a listing for bytes that are not UTF-8"""
_MAX_PATTERNS = 500
"""patterns in one request; a gateway takes 1000"""

_FEW = 8
"""so many files of plain FirecREST come one by one"""


async def download_tree(
    strategy: FileStrategy, remote: str, root: Path, meter: Meter, *, wait: bool = True, key: str
) -> TransferReport:
    """Make `root` hold what the directory `remote` holds; what else is there stays.

    No path of the other side leaves `root`: links that lead out of it are left out and reported, and nothing is
    written through a link.

    Args:
        wait: False leaves out what plain FirecREST brings by jobs, but begins that; see `download`.
        key: see `download`.

    Raises:
        TransferError: something did not arrive.
    """
    listing = await list_tree(strategy.backend, remote)
    root.mkdir(parents=True, exist_ok=True)
    same = await strategy.unchanged_files(remote, root, listing)
    files = {name: file for name, file in listing.files.items() if file.type is FileType.FILE}
    needed = {name: file for name, file in files.items() if name not in same}
    doubtful = strategy.doubtful(listing)
    excluded = await run_sync(_make_directories_and_links, remote, root, listing, doubtful)
    absent = await run_sync(_absent, root, doubtful)
    meter.total = meter.done + sum(file.size for file in needed.values())
    tree = TreeDownload(remote, root, listing, needed.keys(), absent, meter, wait, key)
    later = await strategy.fetch_tree(tree)
    for name in same:
        if is_executable(files[name]) and not os.access(root / name, os.X_OK):
            make_executable(root / name)
    if not later.pending:  # else another call follows, which says so
        tree.failures.raise_any(remote)
    came = [file for name, file in needed.items() if name not in later.names and name not in tree.failures.errors]
    return TransferReport(
        files=len(came),
        unchanged=len(same),
        bytes=sum(file.size for file in came),
        excluded=tuple(excluded),
        pending=tuple(later.pending),
        temporary=tuple(later.temporary),
    )


async def same_in_manifest(strategy: FileStrategy, remote: str, root: Path, listing: Listing) -> set[str]:
    """`FileStrategy.unchanged_files` for plain FirecREST."""
    known = await read_manifest(strategy, remote, listing)
    listing.files.pop(MANIFEST, None)
    checksums = {
        name: (size, await sha256(root / name))
        for name in _local(root, listing)
        if not is_ambiguous(name) and (size := (root / name).stat().st_size) == listing.files[name].size
    }
    return await unchanged_on_firecrest(strategy, remote, checksums, listing, known)


async def same_on_gateway(strategy: FileStrategy, remote: str, root: Path, listing: Listing) -> set[str]:
    """`FileStrategy.unchanged_files` for a Crestline gateway."""
    listing.files.pop(MANIFEST, None)
    return await unchanged_on_gateway(strategy, remote, root, _local(root, listing), listing)


def _local(root: Path, listing: Listing) -> list[str]:
    return [name for name, file in listing.files.items() if file.type is FileType.FILE and _is_file(f"{root}/{name}")]


async def fetch_tree_by_size(strategy: FileStrategy, tree: TreeDownload) -> Later:
    """`FileStrategy.fetch_tree` for plain FirecREST: one archive, or a few files one by one."""
    failures = tree.failures
    if tree.absent or len(tree.needed) > _FEW or any(is_ambiguous(name) for name in tree.needed):
        archive = _Archive(strategy, tree)
        if (job_id := await archive.fetch()) is not None:
            return Later(tree.needed, (job_id,), archive.unfinished.paths)
        return Later()
    started: dict[str, TransferMethod] = {}
    if not tree.wait:
        direct = strategy.backend.max_direct_download
        for name in sorted(tree.needed):
            path, size = tree.path(name), tree.listing.files[name].size
            if needs_transfer_job(strategy.backend, path, size, direct):
                with failures.collect(name):
                    temp_path_for(tree.root, name)
                    status = await strategy.backend.files.stat(path)
                    if (transfer := await begin_download(strategy, path, status, tree.root / name)) is not None:
                        started[name] = transfer
    await run_parallel(
        failures.task(name, partial(_download_one, strategy, tree, name))
        for name in tree.needed
        if name not in started and name not in failures.errors
    )
    return Later(
        started.keys(),
        [transfer.job_id for transfer in started.values()],
        [path for transfer in started.values() for path in transfer.temporary],
    )


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _make_directories_and_links(remote: str, root: Path, listing: Listing, doubtful: set[str]) -> list[str]:
    """Make them, but for those whose true name only an archive tells.

    Returns:
        what is neither of them nor a file, and links that could lead out.
    """
    excluded = []
    for name, file in sorted(listing.files.items()):
        if file.type is FileType.FILE or name in doubtful:
            continue
        if file.type is FileType.DIRECTORY:
            if _UNREADABLE not in name:  # else its files bring its true name
                temp_path_for(root, f"{name}/.")
        elif file.link_target and (target := map_link(name, file.link_target, remote)) is not None:
            make_link(root, name, target)
        else:
            excluded.append(name)
    return excluded


def possibly_escaped(listing: Listing) -> set[str]:
    """Directories and links that plain FirecREST may have listed with escapes."""
    return {
        name
        for name, file in listing.files.items()
        if file.type is not FileType.FILE and "\\" in name + (file.link_target or "")
    }


def _absent(root: Path, doubtful: set[str]) -> set[str]:
    """Those that are not here yet."""
    if not doubtful:
        return doubtful
    return doubtful - {spelling for entry in scan(root).entries for spelling in spellings(entry.path)}


async def fetch_tree_in_stream(strategy: FileStrategy, tree: TreeDownload) -> None:
    """`FileStrategy.fetch_tree` for a Crestline gateway."""
    sizes, failures = {name: tree.listing.files[name].size for name in tree.needed}, tree.failures
    unnamed = {name for name in tree.needed if _UNREADABLE in name}
    together = sorted(name for name, size in sizes.items() if size <= ALONE and name not in unnamed)
    groups = [sorted(unnamed)] * bool(unnamed) + [together] * bool(together)
    while groups:
        missing = set(groups.pop())
        try:
            await _stream(strategy, tree, missing)
        except REFUSED as error:  # all, because of one: the halves tell which
            names = sorted(missing)
            if len(names) == 1:
                failures.errors[names[0]] = error
            else:
                groups += [names[: len(names) // 2], names[len(names) // 2 :]]
        except TransferError as error:
            failures.errors |= dict.fromkeys(missing, error)
    alone = [name for name, size in sizes.items() if size > ALONE and name not in unnamed]
    for name in alone:
        with failures.collect(name):
            await _download_one(strategy, tree, name)


def _tar_of(strategy: FileStrategy, tree: TreeDownload, names: list[str]) -> AsyncIterator[bytes]:
    """Files as one tar stream.

    No request can hold a name that is not UTF-8: patterns select such files, and the stream has the bytes of the name.
    """
    if not any(_UNREADABLE in name for name in names):
        return strategy.backend.files.get_tar(tree.remote, names)
    patterns = tuple(re.sub(r"([*?[])", r"[\1]", name).replace(_UNREADABLE, "*") for name in names)
    if sum(_UNREADABLE in name for name in names) > _MAX_PATTERNS:
        patterns = ("*",)  # the gateway takes no more at once; what was not asked for is skipped
    return strategy.backend.files.select_tar(
        tree.remote, [BundleFilter(directory=".", target=tree.root, patterns=patterns)]
    )


async def _stream(strategy: FileStrategy, tree: TreeDownload, missing: set[str]) -> None:
    """Fetch files as one tar stream, what a cut keeps back as another; takes out of `missing` what is here."""
    backoff = Backoff()
    while missing:
        came: set[str] = set()
        try:
            try:
                async with closing(_tar_of(strategy, tree, sorted(missing))) as chunks:
                    await _unpack(StreamReader(chunks), tree, missing.__contains__, came)
            finally:
                missing -= came
            if missing:
                raise TransferError(f"{len(missing)} files of {tree.remote} did not come.", hint="Try again.")
        except (GatewayUnavailableError, RateLimitedError, TransferError) as error:
            if came:
                backoff.renew()
            await backoff.wait(error)


async def _unpack(
    source: StreamReader | IO[bytes],
    tree: TreeDownload,
    wanted: Callable[[str], bool],
    came: set[str],
    *,
    compressed: bool = False,
    skip_first: bool = False,
    there: str = "",
) -> None:
    """Unpack what is wanted; each file is in `came` as soon as it is there."""

    def is_wanted(path: str) -> bool:
        return wanted(_as_listed(path))

    def work() -> None:
        with tree.meter.gathered() as counted:

            def named(count: int, path: str) -> None:
                counted(count, _as_listed(path))

            for path in unpack(
                source, tree.root, is_wanted, named, compressed=compressed, skip_first=skip_first, there=there
            ):
                came.add(_as_listed(path))

    await run_sync(work)


def _as_listed(path: str) -> str:
    """A member's name as a listing shows it: what is not UTF-8 there is U+FFFD."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "replace")


async def _download_one(strategy: FileStrategy, tree: TreeDownload, name: str) -> None:
    path = tree.path(name)
    temp_path_for(tree.root, name)
    await download_file(strategy, path, await strategy.backend.files.stat(path), tree.root / name, tree.meter)


class _Archive:
    """All of a directory in one archive, which plain FirecREST packs."""

    unfinished: ArchiveJob

    def __init__(self, strategy: FileStrategy, tree: TreeDownload) -> None:
        self._strategy = strategy
        self._tree = tree
        remote = tree.remote
        self._has_own_name = not is_temporary(posixpath.basename(remote))  # else it is a link, which tar would pack
        self._key = f"{strategy.backend.system_name}\n{remote}\n{tree.key}"
        self._about = fingerprint(sorted(tree.listing.files.items()))

    async def fetch(self) -> str | None:
        """Write what is needed; returns the id of a job that has to end first, None if all that can come is there."""
        wait = self._tree.wait
        place = await self._strategy.backend.system.default_workdir()
        self.unfinished = ArchiveJob(self._strategy, place, self._key)
        note = await self.unfinished.read(self._about)
        if note is None and wait:  # there is none to resume, and another call may be at work
            self.unfinished = ArchiveJob(self._strategy, place, secrets.token_hex())
        local = self._tree.root / posixpath.basename(self.unfinished.archive)
        job_id = None
        try:
            if note is None:
                job = await self._begin()
                note = Note(about=self._about).with_job(job)
                if job is not None and not wait:
                    await self.unfinished.write(note)
                    job_id = job.job_id
                    return job_id
            try:
                if not await self.unfinished.is_done(note, wait=wait):
                    job_id = note.job_id
                    return job_id
            except TransferError:  # also where tar could not read one of the files
                if await remote_stat(self._strategy.backend, self.unfinished.archive) is None:
                    raise
            job_id = await self._local_path(local, note)
            if job_id is None:
                await self._unpack(local)
            return job_id
        finally:
            if job_id is None:
                await self.unfinished.give_up(note)
                for path in self._tree.root.glob(f"{local.name}*"):
                    path.unlink()

    async def _begin(self) -> TransferMethod | None:
        """Let it be packed. An archive without the files that tar could not read is as good as another."""
        source = self._tree.remote if self._has_own_name else f"{self._tree.remote}/."
        try:
            return await self._strategy.backend.files.compress(source, self.unfinished.archive)
        except (GatewayUnavailableError, FileMissingError, PermissionDeniedError) as error:
            if not _INCOMPLETE.search(f"{error.message} {' '.join(error.details)}"):
                raise
            if await remote_stat(self._strategy.backend, self.unfinished.archive) is None:
                raise
            return None

    async def _local_path(self, local: Path, note: Note) -> str | None:
        archive = self.unfinished.archive
        status = await self._strategy.backend.files.stat(archive)
        if not self._tree.wait and needs_transfer_job(
            self._strategy.backend, archive, status["size"], self._strategy.backend.max_direct_download
        ):
            if not note.job_id:  # no call has noted yet that it is there
                await self.unfinished.write(note)
            transfer = await begin_download(self._strategy, archive, status, local)
            if transfer is not None:
                return transfer.job_id
        await download_file(self._strategy, archive, status, local, Meter(None))
        return None

    async def _unpack(self, local: Path) -> None:
        needed = self._tree.needed | self._tree.absent
        came: set[str] = set()

        def is_wanted(path: str) -> bool:
            return not spellings(path).isdisjoint(needed)

        with local.open("rb") as file:
            skip, there = self._has_own_name, self._tree.remote
            await _unpack(file, self._tree, is_wanted, came, compressed=True, skip_first=skip, there=there)
        error = TransferError("It could not be read there, or was removed meanwhile.", hint="Check its permissions.")
        self._tree.failures.errors |= dict.fromkeys(needed - {name for path in came for name in spellings(path)}, error)
