"""A directory to plain FirecREST: what differs travels as one archive, with large files beside it."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterable
from pathlib import Path

import anyio
import msgspec
from anyio.to_thread import run_sync

from crestline.client.backends.messages import TransferMethod
from crestline.client.files.archive import pack, write_gzip
from crestline.client.files.archive_job import ArchiveJob, Note, fingerprint
from crestline.client.files.compare import unchanged_on_firecrest
from crestline.client.files.local import sha256
from crestline.client.files.manifest import Known, read_manifest, write_manifest
from crestline.client.files.report import Meter
from crestline.client.files.strategy import FileStrategy, Sent
from crestline.client.files.tree import Listing, TreeEntry, list_tree
from crestline.client.files.upload_file import send_ahead, upload_file
from crestline.client.remote_names import make_directory, needs_transfer_job, temporary_name
from crestline.model import (
    FileMissingError,
    FileType,
    TransferError,
)

_TRIES = 3

_FEW = 8
"""so many large files are left to jobs of plain FirecREST, one each"""


async def pack_and_extract(
    strategy: FileStrategy, root: Path, remote: str, entries: Iterable[TreeEntry], meter: Meter
) -> None:
    """Send entries below `root` as one archive and unpack it in the directory `remote`; for plain FirecREST."""
    archive = posixpath.join(remote, temporary_name(".tar.gz"))
    with tempfile.NamedTemporaryFile(prefix="crestline-", suffix=".tar.gz") as file:
        await run_sync(write_gzip, file, pack(root, entries, meter.add_from_thread))
        file.flush()
        try:
            await upload_file(strategy, Path(file.name), archive, Meter(None))
            await strategy.finish(await strategy.backend.files.extract(archive, remote))
        finally:
            with anyio.CancelScope(shield=True):
                await strategy.remove_if_exists(archive)


async def list_or_make(strategy: FileStrategy, remote: str) -> Listing:
    """What the directory `remote` holds; it is made if it is not there."""
    try:
        return await list_tree(strategy.backend, remote)
    except FileMissingError:
        await make_directory(strategy.backend, remote)
        return Listing([])


class DirectoryUpload:
    """The upload of a directory to plain FirecREST.

    Args:
        root: the directory on this machine.
        remote: the directory on the system; it is made if it is not there.
        entries: the content of `root`.
        wait: False leaves what is done in jobs to these; see `upload`.
        key: see `upload`.
    """

    def __init__(
        self,
        strategy: FileStrategy,
        root: Path,
        remote: str,
        entries: list[TreeEntry],
        meter: Meter,
        *,
        wait: bool,
        key: str,
    ) -> None:
        self._strategy = strategy
        self._root = root
        self._remote = remote
        self._entries = entries
        self._meter = meter
        self._wait = wait
        self._unfinished = ArchiveJob(strategy, remote, f"{strategy.backend.system_name}\n{remote}\n{key}")
        self._checksums: dict[str, tuple[int, str]] = {}
        """size and SHA-256 of the local files"""

    async def send(self) -> Sent:
        """Send what differs, or continue what an earlier call has started.

        Raises:
            TransferError: something did not arrive.
        """
        strategy, remote, entries = self._strategy, self._remote, self._entries
        listing = await list_or_make(strategy, remote)
        for entry in entries:
            if entry.is_file:
                self._checksums[entry.path] = entry.size, await sha256(self._root / entry.path)
        about = fingerprint((entry.path, entry.type, entry.mode, entry.link_target) for entry in entries)
        about = fingerprint([about, self._checksums])
        unpacked: dict[str, str] = {}
        if self._unfinished.is_in(listing.temporary):
            earlier = await self._unfinished.read(about)
            if earlier is None:
                await self._unfinished.remove()
            elif (job_id := await self._continue(earlier)) is not None:
                return Sent([], pending=[job_id], temporary=self._unfinished.paths)
            else:
                listing = await list_tree(strategy.backend, remote)
                packed = {
                    each.path for each, is_packed in zip(entries, earlier.packed, strict=True) if is_packed == "1"
                }
                unpacked = {path: checksum for path, (_, checksum) in self._checksums.items() if path in packed}
        known = await read_manifest(strategy, remote, listing) | unpacked
        same = await unchanged_on_firecrest(strategy, remote, self._checksums, listing, known)
        todo = [entry for entry in entries if listing.differs(entry, same_content=entry.path in same)]
        if unpacked:
            await self._write_manifest([entry for entry in entries if entry.path in same], listing)
        return await self._send(todo, listing, about)

    async def _send(self, todo: list[TreeEntry], listing: Listing, about: str) -> Sent:
        """Send these entries, the large ones by a job each, the others as one archive."""
        if not todo:
            return Sent([])
        self._meter.total = self._meter.done + sum(entry.size for entry in todo)
        ahead = [] if self._wait else [entry for entry in todo if self._can_start(entry, listing)]
        if len(ahead) > _FEW:
            ahead = []
        together = [entry for entry in todo if entry not in ahead]
        note = await self._begin_archive(together, about) if together and not self._wait else None
        if together and note is None:
            listing = await self._send_archive(together)
            await self._write_manifest([entry for entry in self._entries if entry not in ahead], listing)
        pending = [] if note is None else [note.job_id]
        try:
            pending += await self._send_ahead(ahead, listing)
        except BaseException:
            if note is not None:
                await self._unfinished.give_up(note)
            raise
        return Sent(todo, pending=pending, temporary=self._unfinished.paths if note is not None else ())

    async def _send_ahead(self, entries: list[TreeEntry], listing: Listing) -> list[str]:
        """Leave large files to a job each; returns the jobs' ids."""
        for directory in {posixpath.dirname(entry.path) for entry in entries}:
            if directory and listing.find(directory) is None:  # its archive is still on the way
                await make_directory(self._strategy.backend, posixpath.join(self._remote, directory))
        started = []
        for entry in entries:
            path = posixpath.join(self._remote, entry.path)
            job = await send_ahead(self._strategy, self._root / entry.path, path, entry.size, self._meter)
            started.append(job.job_id)
        return started

    async def _begin_archive(self, entries: list[TreeEntry], about: str) -> Note | None:
        """Send entries as one archive, as far as that needs no job.

        Returns:
            the note of the job; None: all is done.
        """
        strategy, unfinished = self._strategy, self._unfinished
        packed = {entry.path for entry in entries}
        note = Note(about=about, packed="".join("1" if entry.path in packed else "0" for entry in self._entries))

        async def on_started(transfer: TransferMethod) -> None:
            await unfinished.write(msgspec.structs.replace(note.with_job(transfer), is_sent=False))

        last = None
        try:
            with tempfile.NamedTemporaryFile(prefix="crestline-", suffix=".tar.gz") as file:
                await run_sync(write_gzip, file, pack(self._root, entries, self._meter.add_from_thread))
                file.flush()
                source, size = Path(file.name), file.tell()
                if needs_transfer_job(strategy.backend, unfinished.archive, size, strategy.backend.max_direct_upload):
                    job = await send_ahead(
                        strategy, source, unfinished.archive, size, Meter(None), on_started=on_started
                    )
                    last = note.with_job(job)
                else:
                    await upload_file(strategy, source, unfinished.archive, Meter(None))
                    last = await self._begin_to_unpack(note)
            if last is not None:
                await unfinished.write(last)
            else:
                await unfinished.remove()
        except BaseException:
            await unfinished.give_up(last)
            raise
        return last

    async def _begin_to_unpack(self, note: Note) -> Note | None:
        """The note of the job that does it; None: it is done."""
        job = await self._strategy.backend.files.extract(self._unfinished.archive, self._remote)
        return None if job is None else msgspec.structs.replace(note.with_job(job), is_unpacked=True)

    async def _continue(self, note: Note) -> str | None:
        """Continue what an earlier call has started.

        Returns:
            the id of the job to wait for; None: all is unpacked.
        """
        last: Note | None = note
        try:
            while last is not None:
                if not await self._unfinished.is_done(last, wait=self._wait):
                    return last.job_id
                if last.is_unpacked:
                    break
                last = await self._begin_to_unpack(last)
                if last is not None:
                    await self._unfinished.write(last)
                    if not self._wait:
                        return last.job_id
        except BaseException:
            await self._unfinished.give_up(last)
            raise
        await self._unfinished.remove()
        return None

    def _can_start(self, entry: TreeEntry, listing: Listing) -> bool:
        """Whether a job alone can bring this to where it belongs, with nothing to be done behind it."""
        if not entry.is_file or entry.mode & 0o100:
            return False
        there = listing.find(entry.path)
        if there is not None and there.type is not FileType.FILE:
            return False  # only an archive replaces a link instead of writing through it
        above = entry.path
        while above := posixpath.dirname(above):
            if (there := listing.find(above)) is not None and not there.is_directory:
                return False
        backend = self._strategy.backend
        path = posixpath.join(self._remote, entry.path)
        return needs_transfer_job(backend, path, entry.size, backend.max_direct_upload)

    async def _send_archive(self, entries: list[TreeEntry]) -> Listing:
        """Send them as one archive, again where something did not arrive; returns what is there then.

        Without `wait`, `_begin_archive` has sent them once.
        """
        todo, meter = entries, self._meter
        for attempt in range(_TRIES):
            is_sent = not self._wait and attempt == 0
            done_before = meter.done - (sum(entry.size for entry in todo) if is_sent else 0)
            if not is_sent:
                await pack_and_extract(self._strategy, self._root, self._remote, todo, meter)
            listing = await list_tree(self._strategy.backend, self._remote)
            todo = [entry for entry in todo if listing.differs(entry, same_content=True)]
            if not todo:
                return listing
            arrived = sum(entry.size for entry in entries) - sum(entry.size for entry in todo)
            meter.add(done_before - meter.done + arrived, self._root.name)
        raise TransferError(
            f"{len(todo)} files did not arrive in {self._remote} as they are here, for example {todo[0].path!r}.",
            hint="Look for another process that writes to them, and for the quota of the file system.",
        )

    async def _write_manifest(self, entries: list[TreeEntry], listing: Listing) -> None:
        known = (
            (entry.path, Known(sha256=self._checksums[entry.path][1], size=file.size, modified=file.modified))
            for entry in entries
            if entry.is_file and (file := listing.find(entry.path)) is not None
        )
        await write_manifest(self._strategy, self._remote, known)
