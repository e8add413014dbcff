"""A directory to plain FirecREST: what differs travels as one archive, with large files beside it."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterable, Iterator
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
                await strategy.remove_if_there(archive)


async def list_or_make(strategy: FileStrategy, remote: str) -> Listing:
    """What the directory `remote` holds; it is made if it is not there."""
    try:
        return await list_tree(strategy.backend, remote)
    except FileMissingError:
        await make_directory(strategy.backend, remote)
        return Listing([])


async def to_plain(
    strategy: FileStrategy,
    root: Path,
    remote: str,
    entries: list[TreeEntry],
    meter: Meter,
    unfinished: ArchiveJob,
    wait: bool,
) -> Sent:
    """Send what differs.

    Args:
        unfinished: what an earlier call has started.
        wait: False leaves what is done in jobs to these; see `upload`.

    Raises:
        TransferError: something did not arrive.
    """
    listing = await list_or_make(strategy, remote)
    checksums = {entry.path: (entry.size, await sha256(root / entry.path)) for entry in entries if entry.is_file}
    about = fingerprint((entry.path, entry.type, entry.mode, entry.link_target) for entry in entries)
    about = fingerprint([about, checksums])
    unpacked: dict[str, str] = {}
    if unfinished.is_in(listing.temporary):
        note = await unfinished.read(about)
        if note is not None:
            if (job_id := await _go_on(strategy, remote, unfinished, note, wait)) is not None:
                return Sent([], pending=[job_id], temporary=unfinished.paths)
            listing = await list_tree(strategy.backend, remote)
            packed = {entry.path for entry, is_packed in zip(entries, note.packed, strict=True) if is_packed == "1"}
            unpacked = {path: checksum for path, (_, checksum) in checksums.items() if path in packed}
        else:
            await unfinished.remove()
    known = await read_manifest(strategy, remote, listing) | unpacked
    same = await unchanged_on_firecrest(strategy, remote, checksums, listing, known)
    todo = [entry for entry in entries if listing.differs(entry, same_content=entry.path in same)]
    if unpacked:
        arrived = [entry for entry in entries if entry.path in same]
        await write_manifest(strategy, remote, _manifest(arrived, checksums, listing))
    if not todo:
        return Sent([])
    meter.total = meter.done + sum(entry.size for entry in todo)
    ahead = [] if wait else [entry for entry in todo if _may_go_ahead(strategy, remote, entry, listing)]
    if len(ahead) > _FEW:
        ahead = []
    note = None
    if together := [entry for entry in todo if entry not in ahead]:
        if not wait:
            packed = {entry.path for entry in together}
            note = Note(about=about, packed="".join("1" if entry.path in packed else "0" for entry in entries))
            note = await _begin_together(strategy, root, remote, together, meter, unfinished, note)
        if note is None:
            listing = await _send_together(strategy, root, remote, together, meter, is_sent=not wait)
            arrived = [entry for entry in entries if entry not in ahead]
            await write_manifest(strategy, remote, _manifest(arrived, checksums, listing))
    pending = [] if note is None else [note.job_id]
    try:
        for directory in {posixpath.dirname(entry.path) for entry in ahead}:
            if directory and listing.find(directory) is None:  # its archive is still on the way
                await make_directory(strategy.backend, posixpath.join(remote, directory))
        for entry in ahead:
            path = posixpath.join(remote, entry.path)
            pending.append((await send_ahead(strategy, root / entry.path, path, entry.size, meter)).job_id)
    except BaseException:
        if note is not None:
            await unfinished.give_up(note)
        raise
    return Sent(todo, pending=pending, temporary=unfinished.paths if note is not None else ())


async def _begin_together(
    strategy: FileStrategy,
    root: Path,
    remote: str,
    entries: list[TreeEntry],
    meter: Meter,
    unfinished: ArchiveJob,
    note: Note,
) -> Note | None:
    """Send entries as one archive, as far as that needs no job; returns the note of the job, None if all is done."""

    async def on_started(transfer: TransferMethod) -> None:
        await unfinished.write(msgspec.structs.replace(note.with_job(transfer), is_sent=False))

    archive, last = unfinished.archive, None
    try:
        with tempfile.NamedTemporaryFile(prefix="crestline-", suffix=".tar.gz") as file:
            await run_sync(write_gzip, file, pack(root, entries, meter.add_from_thread))
            file.flush()
            source, size = Path(file.name), file.tell()
            if needs_transfer_job(strategy.backend, archive, size, strategy.backend.max_direct_upload):
                job = await send_ahead(strategy, source, archive, size, Meter(None), on_started=on_started)
                last = note.with_job(job)
            else:
                await upload_file(strategy, source, archive, Meter(None))
                last = await _begin_to_unpack(strategy, remote, archive, note)
        if last is not None:
            await unfinished.write(last)
        else:
            await unfinished.remove()
    except BaseException:
        await unfinished.give_up(last)
        raise
    return last


async def _begin_to_unpack(strategy: FileStrategy, remote: str, archive: str, note: Note) -> Note | None:
    """The note of the job that does it; None: it is done."""
    job = await strategy.backend.files.extract(archive, remote)
    return None if job is None else msgspec.structs.replace(note.with_job(job), is_unpacked=True)


async def _go_on(strategy: FileStrategy, remote: str, unfinished: ArchiveJob, note: Note, wait: bool) -> str | None:
    """Continue what an earlier call has started; returns the id of the job to wait for, None if all is unpacked."""
    last: Note | None = note
    try:
        while last is not None:
            if not await unfinished.is_done(last, wait=wait):
                return last.job_id
            if last.is_unpacked:
                break
            last = await _begin_to_unpack(strategy, remote, unfinished.archive, last)
            if last is not None:
                await unfinished.write(last)
                if not wait:
                    return last.job_id
    except BaseException:
        await unfinished.give_up(last)
        raise
    await unfinished.remove()
    return None


def _may_go_ahead(strategy: FileStrategy, remote: str, entry: TreeEntry, listing: Listing) -> bool:
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
    return needs_transfer_job(
        strategy.backend, posixpath.join(remote, entry.path), entry.size, strategy.backend.max_direct_upload
    )


async def _send_together(
    strategy: FileStrategy, root: Path, remote: str, entries: list[TreeEntry], meter: Meter, *, is_sent: bool
) -> Listing:
    """Send them as one archive, again where something did not arrive; returns what is there then.

    Args:
        is_sent: that has been done once.
    """
    todo = entries
    for attempt in range(_TRIES):
        done_before = meter.done - (sum(entry.size for entry in todo) if is_sent and not attempt else 0)
        if attempt or not is_sent:
            await pack_and_extract(strategy, root, remote, todo, meter)
        listing = await list_tree(strategy.backend, remote)
        todo = [entry for entry in todo if listing.differs(entry, same_content=True)]
        if not todo:
            return listing
        arrived = sum(entry.size for entry in entries) - sum(entry.size for entry in todo)
        meter.add(done_before - meter.done + arrived, root.name)
    raise TransferError(
        f"{len(todo)} files did not arrive in {remote} as they are here, for example {todo[0].path!r}.",
        hint="Look for another process that writes to them, and for the quota of the file system.",
    )


def _manifest(
    entries: list[TreeEntry], checksums: dict[str, tuple[int, str]], listing: Listing
) -> Iterator[tuple[str, Known]]:
    for entry in entries:
        if entry.is_file and (file := listing.find(entry.path)) is not None:
            yield entry.path, Known(sha256=checksums[entry.path][1], size=file.size, modified=file.modified)
