"""The transfers of one system."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from crestline.gateway.config import S3Config
from crestline.gateway.hosts import Files
from crestline.gateway.identity import Principal
from crestline.gateway.replicas import Replicas
from crestline.gateway.store import Store
from crestline.gateway.transfers import parts
from crestline.gateway.transfers.finalize import UNFINISHED, Finalizer
from crestline.gateway.transfers.job_info import to_job_info
from crestline.gateway.transfers.objects import StagedObjects
from crestline.gateway.transfers.operations import Operations
from crestline.gateway.transfers.records import ENDED, Transfer, TransferRecords, encode_caller
from crestline.gateway.transfers.signed_urls import SignedUrls
from crestline.gateway.transfers.signing import UrlSigner
from crestline.gateway.transfers.unfinished import UnfinishedUploads
from crestline.model import (
    ConfigError,
    CrestlineError,
    GatewayUnavailableError,
)
from crestline.wire.compute import JobInfo, JobMetadata
from crestline.wire.filesystem import S3Directives, TransferAnswer, TransferJob, TransferLogs, UploadAnswer

if TYPE_CHECKING:
    from crestline.gateway.transfers.s3.staging import Staging

LIFETIME = 3600
"""Lifetime of a signed URL in seconds, plus one second per MiB of the file."""

MAX_LIFETIME = 7 * 86400
"""Maximum lifetime of a signed URL in seconds, because a sparse file can report any size."""

RETENTION = 7 * 86400
"""Seconds for which an ended transfer and its logs are kept."""

_SWEEP = 300
_ATTENTION = 2
_ID = re.compile(r"t[0-9a-f]{16}")  # ids of schedulers are numbers, or begin with one

_log = logging.getLogger("crestline.transfers")


class TransferService:
    """Uploads and downloads by signed URLs, and file operations in the background.

    Every transfer has an id that can be queried like a job's, and logs in the user's default directory with the texts
    of FirecREST's jobs.
    """

    def __init__(
        self,
        name: str,
        unfinished: UnfinishedUploads,
        files: Callable[[str], Files],
        default_directory: Callable[[Principal], str],
        s3: S3Config | None,
        store: Store,
        replicas: Replicas,
        signing_key: bytes,
        public_url: Callable[[], str],
    ) -> None:
        """Create the service.

        Args:
            name: name of the system.
            unfinished: records of abandoned files on the system's machine.
            files: returns the files of that machine as a user sees them.
            default_directory: returns the directory for the logs of a caller's transfers.
            s3: the object store of the transfers; None: files pass through the gateway only.
        """
        self._name = name
        self._files = files
        self._default_directory = default_directory
        self._store = store
        self._replicas = replicas
        self._records = TransferRecords(store.engine, name, replicas.id)
        self._endings = Finalizer(name, self._records, files)
        self.urls = SignedUrls(name, UrlSigner(signing_key, public_url), self._records, self._endings, files)
        self._public_url = public_url
        self._operations = Operations()
        self._staging = self._staging_of(s3, store)
        self.unfinished = unfinished
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """End or resume the transfers of a killed gateway, then repeat that from time to time."""
        if self._staging is not None:
            await self._staging.start()
        await self.reconcile()
        self._keepers.append(asyncio.create_task(self._forever(self.sweep, _SWEEP)))
        if self._store.shared:
            self._keepers.append(asyncio.create_task(self._forever(self.reconcile, _ATTENTION)))

    async def reconcile(self) -> None:
        """End or resume the transfers of dead gateways, and cancel those that other gateways were asked to cancel."""
        for transfer in await self._records.unfinished():
            if not await self._replicas.is_dead(transfer.owner):
                if transfer.cancel:
                    await self._operations.cancel(transfer.transfer_id)
            elif self._staging is not None and await self._staging.knows(transfer):
                if await self._records.claim(transfer):
                    self._move(self._staging, transfer)
            elif transfer.kind != "upload":
                reason = "The gateway was restarted while this ran; what it had done until then was left as it is."
                await self._endings.end(transfer, "FAILED", reason, sources=UNFINISHED)
            elif transfer.state == "COMPLETING":
                await self._settle_completion(transfer)

    async def stop(self, patience: float = 0.0) -> None:
        """Stop running transfers, after `patience` seconds in which they may end by themselves."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._operations.wait(patience)
        self._endings.stop()
        await self._operations.stop()
        if self._staging is not None:
            await self._staging.stop()

    @property
    def object_store(self) -> Staging | None:
        """The object store of the transfers; None: files pass through the gateway only."""
        return self._staging

    def describe(self) -> dict[str, Any]:
        """Return `dataOperation.data_transfer` of `/status/systems`. The gateway itself may be the object store."""
        hidden = "**********"
        return {
            "serviceType": "s3",
            "name": "crestline" if self._staging is None else "s3",
            "privateUrl": hidden,
            "publicUrl": self._public_url() if self._staging is None else self._staging.public_url,
            "accessKeyId": hidden,
            "secretAccessKey": hidden,
            "region": "crestline",
            "ttl": LIFETIME,
        }

    # Called by the filesystem routes

    async def upload(self, caller: Principal, path: str, size: int) -> UploadAnswer:
        """Start the upload of a file of `size` bytes to `path`."""
        part_size = parts.part_size(size)
        transfer = await self._new(caller, "upload", path, size=size, part_size=part_size)
        await self._records.add(transfer)
        if self._staging is not None:
            return await self._offer(self._staging, transfer, self._staging.offer_upload)
        try:
            await self._files(transfer.username).uploads.reserve(path, transfer.transfer_id, size)
        except CrestlineError:
            await self._records.forget(transfer.transfer_id)
            raise
        await self._records.transition(transfer.transfer_id, ("PENDING",), "RUNNING")
        return UploadAnswer(
            transfer_job=self._job_of(transfer),
            transfer_directives=S3Directives(
                transfer_method="s3",
                parts_upload_urls=self.urls.parts(transfer),
                complete_upload_url=self.urls.completion(transfer),
                max_part_size=part_size,
            ),
        )

    async def download(self, caller: Principal, path: str) -> UploadAnswer:
        """Offer a file by a signed URL. It is read when the URL is used."""
        file = await self._files(caller.username).open(path)
        await file.close()
        # Only an object store receives it in parts, and limits its size.
        part_size = parts.part_size(file.size) if self._staging is not None else 0
        transfer = await self._new(caller, "download", path, size=file.size, part_size=part_size)
        await self._records.add(transfer)
        if self._staging is not None:
            return await self._offer(self._staging, transfer, self._staging.offer_download)
        await self._endings.end(transfer, "COMPLETED")
        return UploadAnswer(
            transfer_job=self._job_of(transfer),
            transfer_directives=S3Directives(transfer_method="s3", download_url=self.urls.content(transfer)),
        )

    async def run(
        self,
        caller: Principal,
        kind: str,
        path: str,
        work: Callable[[Files], Awaitable[None]],
        *,
        source: str | None = None,
    ) -> TransferAnswer:
        """Run `work` in the background.

        Args:
            caller: the user.
            kind: a kind of operation for which `job_info` has a sentence.
            path: the path that it changes.
            source: another path that it reads, so that a path outside the file systems is refused immediately.
        """
        if source is not None:
            self._files(caller.username).check(source)
        transfer = await self._new(caller, kind, path)
        await self._records.add(transfer)

        async def begin_and_work() -> None:
            await self._records.transition(transfer.transfer_id, ("PENDING",), "RUNNING")
            await work(self._files(transfer.username))

        async def outcome(state: str, reason: str) -> None:
            await self._endings.end_with_retries(transfer, state, reason)

        self._operations.launch(transfer.transfer_id, begin_and_work, outcome)
        return TransferAnswer(transfer_job=self._job_of(transfer))

    # Called by the compute routes

    async def job(self, caller: Principal, job_id: str) -> JobInfo | None:
        """Return a transfer of the caller as a job; None if the id is unknown."""
        transfer = await self._find_own(caller, job_id)
        if transfer is None:
            return None
        if self._staging is not None:
            self._staging.wake(job_id)
        return to_job_info(transfer)

    async def metadata(self, caller: Principal, job_id: str) -> JobMetadata | None:
        """Return the paths of a transfer's logs; None if the id is unknown."""
        transfer = await self._find_own(caller, job_id)
        if transfer is None:
            return None
        return JobMetadata(
            job_id=transfer.transfer_id,
            standard_input="/dev/null",
            standard_output=transfer.output_log,
            standard_error=transfer.error_log,
        )

    async def cancel(self, caller: Principal, job_id: str) -> bool:
        """Cancel a transfer. An ended transfer does not change. Return False if the id is unknown."""
        transfer = await self._find_own(caller, job_id)
        if transfer is None:
            return False
        if await self._operations.cancel(transfer.transfer_id):
            return True
        at_work = self._staging is not None and await self._staging.knows(transfer)
        if transfer.kind == "upload" and not at_work:
            if await self._endings.end(transfer, "CANCELLED"):
                await self._discard(transfer)  # if the system does not respond, the sweep removes it
        elif transfer.state not in ENDED:
            await self._records.ask_to_cancel(transfer.transfer_id)  # another replica runs it
        return True

    # Through an object store

    async def _offer(
        self, staging: Staging, transfer: Transfer, offer: Callable[[Transfer], Awaitable[S3Directives]]
    ) -> UploadAnswer:
        try:
            directives = await offer(transfer)
        except CrestlineError:
            await self._forget_offer(staging, transfer)
            raise
        self._move(staging, transfer)
        return UploadAnswer(transfer_job=self._job_of(transfer), transfer_directives=directives)

    async def _forget_offer(self, staging: Staging, transfer: Transfer) -> None:
        await self._records.transition(transfer.transfer_id, ("PENDING",), "FAILED")
        try:
            await staging.clean(transfer, "FAILED")
        except CrestlineError as error:
            _log.warning("transfer %s: %s (the sweep will try again)", transfer.transfer_id, error)
            return
        await self._records.forget(transfer.transfer_id)

    def _move(self, staging: Staging, transfer: Transfer) -> None:
        """Move a file between the object store and the system in the background."""

        async def work() -> None:
            await self._records.transition(transfer.transfer_id, ("PENDING",), "RUNNING")
            await (staging.import_(transfer) if transfer.kind == "upload" else staging.export(transfer))

        async def outcome(state: str, reason: str) -> None:
            await self._endings.end_with_retries(transfer, state, reason)
            try:
                await staging.clean(transfer, state)
            except CrestlineError as error:
                _log.warning("transfer %s: %s (the sweep will try again)", transfer.transfer_id, error)

        self._operations.launch(transfer.transfer_id, work, outcome, resumes=True)

    def _staging_of(self, s3: S3Config | None, store: Store) -> Staging | None:
        if s3 is None:
            return None
        try:
            from crestline.gateway.transfers.s3.staging import Staging
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The system {self._name!r} has `s3`, and {error.name} is not installed.",
                hint="Run: pip install 'crestline[s3]'",
            ) from error
        objects = StagedObjects(store.engine, self._name)
        return Staging(s3, objects, self._records, self._files)

    # Internal

    async def _new(self, caller: Principal, kind: str, path: str, *, size: int = 0, part_size: int = 0) -> Transfer:
        files = self._files(caller.username)
        path = files.check(path)
        directory = self._default_directory(caller)
        await files.make_directory(directory, parents=True)
        now = time.time()
        return Transfer(
            transfer_id=f"t{secrets.token_hex(8)}",
            system=self._name,
            username=caller.username,
            kind=kind,
            state="PENDING",
            path=path,
            directory=directory,
            size=size,
            part_size=part_size,
            created=now,
            expires=now + min(LIFETIME + size / parts.MIB, MAX_LIFETIME),
            caller=encode_caller(caller),
        )

    async def _settle_completion(self, transfer: Transfer) -> None:
        """Settle an upload whose gateway was killed around the rename: the temporary file shows whether it happened."""
        if await self._files(transfer.username).uploads.offset(transfer.path, transfer.transfer_id):
            await self._records.transition(transfer.transfer_id, ("COMPLETING",), "RUNNING")
        else:
            await self._endings.end(transfer, "COMPLETED", sources=UNFINISHED)

    async def _forever(self, work: Callable[[], Awaitable[None]], interval: float) -> None:
        while True:
            try:
                await work()
            except (CrestlineError, SQLAlchemyError) as error:
                _log.warning("transfers of %s could not be looked after: %s", self._name, error)
            await asyncio.sleep(interval)

    async def sweep(self) -> None:
        """Discard uploads that were not completed in time, and records of transfers that ended long ago."""
        now = time.time()
        await self.unfinished.sweep(self._files)
        if self._staging is not None:
            await self._staging.sweep()
        for transfer in await self._records.expired(now):
            if self._staging is not None and await self._staging.knows(transfer):
                continue  # the task that moves it enforces the time limit
            if await self._discard(transfer):
                await self._endings.end(transfer, "FAILED", "The upload was not completed in time.")
        for transfer in await self._records.ended_before(now - RETENTION):
            if transfer.expires > now:
                continue  # its URL is still valid
            if transfer.kind == "upload" and transfer.state != "COMPLETED" and not await self._discard(transfer):
                continue  # the system did not respond when the upload ended, and still does not
            for log in (transfer.output_log, transfer.error_log):
                try:
                    await self._files(transfer.username).remove(log)
                except CrestlineError:  # it does not exist, or the system does not respond
                    continue
            await self._records.forget(transfer.transfer_id)

    async def _discard(self, transfer: Transfer) -> bool:
        """Discard the stored part of an upload. Return False if the system does not respond, so that it remains for
        now."""
        try:
            await self._files(transfer.username).uploads.discard(transfer.path, transfer.transfer_id)
        except GatewayUnavailableError as error:
            _log.warning("the unfinished upload %s stays for now: %s", transfer.transfer_id, error)
            return False
        except CrestlineError as error:  # its directory was removed, or is closed to the user
            _log.info("the unfinished upload %s is out of reach: %s", transfer.transfer_id, error)
        return True

    async def _find_own(self, caller: Principal, job_id: str) -> Transfer | None:
        transfer = await self._records.get(job_id) if _ID.fullmatch(job_id) else None
        return transfer if transfer is not None and transfer.username == caller.username else None

    def _job_of(self, transfer: Transfer) -> TransferJob:
        return TransferJob(
            job_id=transfer.transfer_id,
            system=self._name,
            working_directory=transfer.directory,
            logs=TransferLogs(output_log=transfer.output_log, error_log=transfer.error_log),
        )
