"""The transfers of one system."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

from crestline.gateway.hosts import Files, OpenFile
from crestline.gateway.identity import Caller
from crestline.gateway.store import Store
from crestline.gateway.transfers import parts
from crestline.gateway.transfers.operations import Operations
from crestline.gateway.transfers.records import ENDED, Records, Transfer
from crestline.gateway.transfers.signing import UrlSigner
from crestline.model import ConflictError, CrestlineError, InvalidRequestError, NotFoundError
from crestline.wire.compute import JobInfo, JobMetadata, JobStatus, JobTime
from crestline.wire.filesystem import S3Directives, TransferAnswer, TransferJob, TransferLogs, UploadAnswer

if TYPE_CHECKING:
    from crestline.gateway.systems import SystemRuntime

LIFETIME = 3600
"""seconds that a signed URL lives, and one more per MiB of the file"""

RETENTION = 7 * 86400
"""seconds that an ended transfer and its logs are kept"""

_SWEEP = 300
_ID = re.compile(r"t[0-9a-f]{16}")  # a scheduler's ids are numbers, or begin with one
_SENTENCES = {
    "upload": "File was successfully uploaded",
    "download": "Multipart file upload successfully completed",
    "cp": "Files were successfully copied",
    "mv": "Files were successfully moved",
    "rm": "Files were successfully deleted",
    "compress": "Files were successfully compressed",
    "extract": "Files were successfully extracted",
}
_UNFINISHED = ("PENDING", "RUNNING", "COMPLETING")
_SUCCESS = re.compile("Files? (was|were) successfully|upload successfully completed")

_log = logging.getLogger("crestline.transfers")


class TransferService:
    """Uploads and downloads by signed URLs, and file operations in the background.

    Every transfer has an id that answers like a job's, and logs in the user's default directory that say what
    FirecREST's jobs say there.
    """

    def __init__(
        self, system: SystemRuntime, store: Store, *, signing_key: bytes, public_url: Callable[[], str]
    ) -> None:
        self._system = system
        self._records = Records(store.engine, system.name)
        self._signer = UrlSigner(signing_key, public_url)
        self._public_url = public_url
        self._operations = Operations()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Settle what a killed gateway left behind, then look after it from time to time."""
        for transfer in await self._records.unfinished():
            if transfer.kind != "upload":
                reason = "The gateway was restarted while this ran; what it had done until then was left as it is."
                await self._end(transfer, "FAILED", reason, sources=_UNFINISHED)
            elif transfer.state == "COMPLETING":
                await self._settle_completion(transfer)
        self._sweeper = asyncio.create_task(self._sweep_forever(), name=f"transfers of {self._system.name}")

    async def stop(self) -> None:
        """End what runs."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._operations.stop()

    def describe(self) -> dict[str, Any]:
        """`dataOperation.data_transfer` of `/status/systems`; the gateway itself is the object store."""
        hidden = "**********"
        return {
            "serviceType": "s3",
            "name": "crestline",
            "privateUrl": hidden,
            "publicUrl": self._public_url(),
            "accessKeyId": hidden,
            "secretAccessKey": hidden,
            "region": "crestline",
            "ttl": LIFETIME,
        }

    # what the filesystem routes start

    async def upload(self, caller: Caller, path: str, size: int) -> UploadAnswer:
        """Begin the upload of a file of `size` bytes to `path`."""
        part_size = parts.part_size(size)
        transfer = await self._new(caller, "upload", path, size=size, part_size=part_size)
        await self._records.add(transfer)
        try:
            await self._files(transfer).upload_reserve(path, transfer.transfer_id, size)
        except CrestlineError:
            await self._records.forget(transfer.transfer_id)
            raise
        await self._records.move(transfer.transfer_id, ("PENDING",), "RUNNING")
        expires = int(transfer.expires)
        return UploadAnswer(
            transfer_job=self._job_of(transfer),
            transfer_directives=S3Directives(
                transfer_method="s3",
                parts_upload_urls=[
                    self._signer.url("PUT", self._part_path(transfer.transfer_id, number), expires)
                    for number in range(1, parts.count(size, part_size) + 1)
                ],
                complete_upload_url=self._signer.url("POST", self._path(transfer.transfer_id, "complete"), expires),
                max_part_size=part_size,
            ),
        )

    async def download(self, caller: Caller, path: str) -> UploadAnswer:
        """Offer a file by a signed URL; it is read when the URL is."""
        file = await self._system.files(caller).open(path)
        await file.close()
        transfer = await self._new(caller, "download", path, size=file.size)
        await self._records.add(transfer)
        await self._end(transfer, "COMPLETED")
        url = self._signer.url("GET", self._path(transfer.transfer_id, "content"), int(transfer.expires))
        return UploadAnswer(
            transfer_job=self._job_of(transfer),
            transfer_directives=S3Directives(transfer_method="s3", download_url=url),
        )

    async def run(
        self, caller: Caller, kind: str, path: str, work: Callable[[Files], Awaitable[None]]
    ) -> TransferAnswer:
        """Do `work` in the background; `kind` is a key of the sentences above."""
        transfer = await self._new(caller, kind, path)
        await self._records.add(transfer)

        async def begin_and_work() -> None:
            await self._records.move(transfer.transfer_id, ("PENDING",), "RUNNING")
            await work(self._files(transfer))

        async def outcome(state: str, reason: str) -> None:
            await self._end(transfer, state, reason)

        self._operations.launch(transfer.transfer_id, begin_and_work, outcome)
        return TransferAnswer(transfer_job=self._job_of(transfer))

    # what the compute routes ask

    async def job(self, caller: Caller, job_id: str) -> JobInfo | None:
        """A transfer of the caller as a job; None where there is none of that id."""
        transfer = await self._own(caller, job_id)
        return None if transfer is None else _as_job(transfer)

    async def metadata(self, caller: Caller, job_id: str) -> JobMetadata | None:
        """Where the logs of a transfer are; None where there is none of that id."""
        transfer = await self._own(caller, job_id)
        if transfer is None:
            return None
        return JobMetadata(
            job_id=transfer.transfer_id,
            standard_input="/dev/null",
            standard_output=transfer.output_log,
            standard_error=transfer.error_log,
        )

    async def cancel(self, caller: Caller, job_id: str) -> bool:
        """End a transfer; nothing happens to one that has ended. False where there is none of that id."""
        transfer = await self._own(caller, job_id)
        if transfer is None:
            return False
        await self._operations.cancel(transfer.transfer_id)
        if transfer.kind == "upload" and await self._end(transfer, "CANCELLED"):
            await self._files(transfer).upload_discard(transfer.path, transfer.transfer_id)
        return True

    # what the signed URLs do

    async def put_part(
        self,
        transfer_id: str,
        number: int,
        expires: str,
        signature: str,
        length: int | None,
        body: AsyncIterator[bytes],
    ) -> str:
        """Store one part; returns its ETag (MD5 in hexadecimal)."""
        self._signer.check("PUT", self._part_path(transfer_id, number), expires, signature)
        transfer = await self._get(transfer_id, "upload")
        if transfer.state != "RUNNING":
            raise NotFoundError(f"The upload is {transfer.state}.")
        offset, expected = parts.extent(transfer.size, transfer.part_size, number)
        if length is not None and length != expected:
            raise InvalidRequestError(f"Part {number} has {expected} bytes, not {length}.")
        etag = await self._files(transfer).upload_piece(transfer.path, transfer_id, offset, expected, body)
        await self._records.add_part(transfer_id, number, etag)
        return etag

    async def complete(self, transfer_id: str, expires: str, signature: str, body: bytes) -> str:
        """Make an upload visible; returns the file's ETag as S3 makes it. Nothing is copied or read for it."""
        self._signer.check("POST", self._path(transfer_id, "complete"), expires, signature)
        transfer = await self._get(transfer_id, "upload")
        stored = await self._records.parts(transfer_id)
        self._check_parts(transfer, parts.read_completion(body), stored)
        digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(stored.items()))
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(stored)}"
        if transfer.state == "COMPLETED":  # the answer got lost, and the client asks again
            return etag
        if not await self._records.move(transfer_id, ("RUNNING",), "COMPLETING"):
            raise ConflictError(f"The upload is {transfer.state} already.")
        try:
            await self._files(transfer).upload_finish(transfer.path, transfer_id)
        except CrestlineError:
            await self._records.move(transfer_id, ("COMPLETING",), "RUNNING")
            raise
        await self._end(transfer, "COMPLETED", sources=("COMPLETING",))
        return etag

    async def open_download(self, transfer_id: str, expires: str, signature: str) -> OpenFile:
        """A file that was offered."""
        self._signer.check("GET", self._path(transfer_id, "content"), expires, signature)
        transfer = await self._get(transfer_id, "download")
        return await self._files(transfer).open(transfer.path)

    # inside

    async def _new(self, caller: Caller, kind: str, path: str, *, size: int = 0, part_size: int = 0) -> Transfer:
        directory = self._system.default_directory(caller)
        await self._system.files(caller).make_directory(self._system.guard.check(directory), parents=True)
        now = time.time()
        return Transfer(
            transfer_id=f"t{secrets.token_hex(8)}",
            system=self._system.name,
            username=caller.username,
            kind=kind,
            state="PENDING",
            path=path,
            directory=directory,
            size=size,
            part_size=part_size,
            created=now,
            expires=now + LIFETIME + size / parts.MIB,
        )

    async def _end(
        self,
        transfer: Transfer,
        state: str,
        reason: str = "",
        sources: tuple[str, ...] = ("PENDING", "RUNNING"),
    ) -> bool:
        """Write the logs, then the state: whoever sees the state finds the logs. False where it had ended before."""
        if not await self._records.move(transfer.transfer_id, sources, "COMPLETING"):
            return False
        await self._write_logs(transfer, state, reason)
        return await self._records.move(transfer.transfer_id, ("COMPLETING",), state, reason)

    async def _write_logs(self, transfer: Transfer, state: str, reason: str) -> None:
        if state == "COMPLETED":
            said = f"{_SENTENCES[transfer.kind]}\n"
        else:
            shown = "see the log of errors" if _SUCCESS.search(reason) else reason
            said = f"{transfer.kind} {state}: {shown}\n"
        try:
            for path, text in ((transfer.output_log, said), (transfer.error_log, f"{reason}\n" if reason else "")):
                await self._files(transfer).write(path, _once(text.encode("utf-8", "replace")))
        except CrestlineError as error:
            _log.warning("the log of transfer %s cannot be written: %s", transfer.transfer_id, error)

    async def _settle_completion(self, transfer: Transfer) -> None:
        """The gateway was killed around the rename: the temporary file says on which side of it."""
        if await self._files(transfer).upload_offset(transfer.path, transfer.transfer_id):
            await self._records.move(transfer.transfer_id, ("COMPLETING",), "RUNNING")
        else:
            await self._end(transfer, "COMPLETED", sources=_UNFINISHED)

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except (CrestlineError, SQLAlchemyError) as error:
                _log.warning("transfers of %s could not be swept: %s", self._system.name, error)
            await asyncio.sleep(_SWEEP)

    async def sweep(self) -> None:
        """Drop uploads that nobody completed in time, and what is known of transfers that ended long ago."""
        now = time.time()
        for transfer in await self._records.expired(now):
            await self._end(transfer, "FAILED", "The upload was not completed in time.")
            await self._files(transfer).upload_discard(transfer.path, transfer.transfer_id)
        for transfer in await self._records.ended_before(now - RETENTION):
            for log in (transfer.output_log, transfer.error_log):
                try:
                    await self._files(transfer).remove(log)
                except NotFoundError:
                    continue
            await self._records.forget(transfer.transfer_id)

    def _check_parts(self, transfer: Transfer, named: dict[int, str], stored: dict[int, str]) -> None:
        for number in range(1, parts.count(transfer.size, transfer.part_size) + 1):
            if number not in stored:
                raise parts.InvalidPartError(f"Part {number} was not sent.")
            if named.get(number) != stored[number]:
                raise parts.InvalidPartError(f"Part {number} is not listed with the ETag of what was sent.")
        if unknown := sorted(named.keys() - stored.keys()):
            raise parts.InvalidPartError(f"The upload has no part {unknown[0]}.")

    async def _own(self, caller: Caller, job_id: str) -> Transfer | None:
        transfer = await self._records.get(job_id) if _ID.fullmatch(job_id) else None
        return transfer if transfer is not None and transfer.username == caller.username else None

    async def _get(self, transfer_id: str, kind: str) -> Transfer:
        transfer = await self._records.get(transfer_id)
        if transfer is None or transfer.kind != kind:
            raise NotFoundError("There is no such transfer any more.", hint="Start it again.")
        return transfer

    def _files(self, transfer: Transfer) -> Files:
        return self._system.host.files(transfer.username)

    def _job_of(self, transfer: Transfer) -> TransferJob:
        return TransferJob(
            job_id=transfer.transfer_id,
            system=self._system.name,
            working_directory=transfer.directory,
            logs=TransferLogs(output_log=transfer.output_log, error_log=transfer.error_log),
        )

    def _path(self, transfer_id: str, what: str) -> str:
        return f"/transfers/{quote(self._system.name.lower())}/{transfer_id}/{what}"

    def _part_path(self, transfer_id: str, number: int) -> str:
        return self._path(transfer_id, f"parts/{number}")


def _as_job(transfer: Transfer) -> JobInfo:
    ended = transfer.state in ENDED
    begin, end = transfer.started, transfer.ended
    return JobInfo(
        job_id=transfer.transfer_id,
        name=f"transfer-{transfer.kind}",
        status=JobStatus(
            # COMPLETING is a matter of our own: its logs are being written.
            state="RUNNING" if transfer.state == "COMPLETING" else transfer.state,
            state_reason=transfer.reason or None,
            exit_code=int(transfer.state != "COMPLETED") if ended else None,
        ),
        time=JobTime(
            elapsed=int((end or time.time()) - begin) if begin is not None else 0,
            start=int(begin) if begin is not None else None,
            end=int(end) if end is not None else None,
            submit=int(transfer.created),
        ),
        cluster=transfer.system,
        user=transfer.username,
        working_directory=transfer.directory,
    )


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
