"""Directories that plain FirecREST packs or unpacks in a job: started by one call and completed by a later one."""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections.abc import Iterable

import anyio
import msgspec

from crestline.bounded import decode
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import TransferMethod
from crestline.client.files.strategy import FileStrategy
from crestline.model import CrestlineError, FileMissingError, JobNotFoundError, JobState, TransferError

log = logging.getLogger(__name__)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is; lies beside the archive on the system, where any machine finds it. It holds no signed URL."""

    about: str
    """identifies the content, to see whether it has changed since"""
    job_id: str = ""
    """the transfer job that is at work; empty: the archive is complete"""
    log: str = ""
    is_sent: bool = True
    """False: the writer of this note still sends the archive to the store; if it stops, the archive never arrives"""
    is_unpacked: bool = False
    """whether the job unpacks the archive"""
    packed: str = ""
    """which of the local entries are in the archive: a `1` or `0` for each"""

    def with_job(self, job: TransferMethod | None) -> Note:
        job = job or TransferMethod(job_id="")
        return msgspec.structs.replace(self, job_id=job.job_id, log=job.log)


class ArchiveJob:
    """The archive of a directory, and the note beside it.

    Args:
        directory: where they lie.
        key: calls with the same one find each other's.
    """

    def __init__(self, strategy: FileStrategy, directory: str, key: str) -> None:
        self._strategy = strategy
        self._directory = directory
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.archive = posixpath.join(directory, f".crestline-{digest}.tar.gz")
        self._note = f".crestline-{digest}.json"
        self.paths = (self.archive, posixpath.join(directory, self._note))
        self._is_noted = False

    def is_in(self, names: set[str]) -> bool:
        """Whether one of the two is among the names of their directory."""
        return any(posixpath.basename(path) in names for path in self.paths)

    async def read(self, about: str) -> Note | None:
        """What an earlier call has started; None: nothing, or nothing of use any more, and then it is given up."""
        try:
            content = await self._strategy.backend.files.download_small(self.paths[1])
        except FileMissingError:
            return None
        self._is_noted = True
        try:
            note = decode(content, Note)
        except msgspec.DecodeError:  # it was cut off while it was written
            await self.remove()
            return None
        if note.about == about and note.is_sent and not await self._was_cancelled(note):
            return note
        await self.give_up(note)
        return None

    async def write(self, note: Note) -> None:
        """Store the note on the system, for later calls on any machine."""
        self._is_noted = True
        await self._strategy.backend.files.upload_small(self._directory, self._note, msgspec.json.encode(note))

    async def is_done(self, note: Note, *, wait: bool) -> bool:
        """Whether the note's job has done its work; False only if it shall not be waited for.

        Raises:
            TransferError: it has failed.
        """
        if not note.job_id:
            return True
        if not wait and not await has_ended(self._strategy.backend, note.job_id):
            return False
        try:
            await self._strategy.finish(TransferMethod(job_id=note.job_id, log=note.log))
        except JobNotFoundError as error:
            raise TransferError(f"The transfer job {note.job_id} is gone.", hint="Try again.") from error
        return True

    async def give_up(self, note: Note | None) -> None:
        """Leave neither job nor file behind, even if this call is being cancelled."""
        with anyio.CancelScope(shield=True):
            if note is not None and note.job_id:
                try:
                    if not await has_ended(self._strategy.backend, note.job_id):
                        await self._strategy.backend.jobs.cancel(note.job_id)
                except CrestlineError as error:
                    log.warning("transfer job %s could not be cancelled: %s", note.job_id, error)
            await self.remove()

    async def remove(self) -> None:
        """Remove the archive and the note from the system."""
        with anyio.CancelScope(shield=True):
            for path in self.paths if self._is_noted else self.paths[:1]:
                await self._strategy.remove_if_exists(path)

    async def _was_cancelled(self, note: Note) -> bool:
        if not note.job_id:
            return False
        try:
            jobs = await self._strategy.backend.jobs.get(note.job_id)
        except JobNotFoundError:
            return False
        return any(job.state is JobState.CANCELLED for job in jobs)


async def has_ended(backend: Backend, job_id: str) -> bool:
    """Whether a job of an earlier call has ended, or is not known any more."""
    try:
        return all(job.is_finished for job in await backend.jobs.get(job_id))
    except JobNotFoundError:
        return True


def fingerprint(facts: Iterable[object]) -> str:
    """What tells one state of a directory from another."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{fact!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
