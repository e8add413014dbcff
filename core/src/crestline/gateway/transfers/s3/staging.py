"""Moves files between the object store and the system."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable

from crestline.gateway.config import S3Config
from crestline.gateway.hosts import Files
from crestline.gateway.transfers import parts
from crestline.gateway.transfers.objects import StagedObject, StagedObjects
from crestline.gateway.transfers.records import ENDED, Transfer, TransferRecords
from crestline.gateway.transfers.s3.store import Head, ObjectStore
from crestline.model import FileMissingError, GatewayUnavailableError, TransferError
from crestline.wire.filesystem import S3Directives

_SOON, _LATE = 0.5, 15.0
"""Seconds between two checks for an upload, while it is new and when it is old. A request for its job causes a
check."""
_AT_ONCE = 0.2
_PAUSE = 1.0
"""Seconds before a store or a system that did not respond is asked again."""
_LONGEST_BUCKET = 63
"""Maximum length of a bucket's name."""


class Staging:
    """The uploads and downloads of one system."""

    def __init__(
        self, config: S3Config, objects: StagedObjects, records: TransferRecords, files: Callable[[str], Files]
    ) -> None:
        self._config = config
        self._store = ObjectStore(config, config.read_secret())
        self._objects = objects
        self._records = records
        self._files = files
        self._nudges: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        """Open the client of the object store."""
        await self._store.start()

    async def stop(self) -> None:
        """Close the client of the object store."""
        await self._store.stop()

    async def knows(self, transfer: Transfer) -> bool:
        """Whether a transfer uses the object store."""
        return await self._objects.get(transfer.transfer_id) is not None

    async def ping(self) -> str:
        """Probe the object store."""
        return await self._store.ping()

    @property
    def public_url(self) -> str:
        """URL of the object store for clients."""
        return self._config.public_endpoint or self._config.endpoint

    async def offer_upload(self, transfer: Transfer) -> S3Directives:
        """Return URLs for the parts of a file, for which `import_` waits."""
        await self._files(transfer.username).uploads.reserve(transfer.path, transfer.transfer_id, transfer.size)
        staged = await self._begin(transfer)
        lifetime = _lifetime(transfer)
        count = max(1, parts.count(transfer.size, transfer.part_size))  # S3 creates an empty file from an empty part
        return S3Directives(
            transfer_method="s3",
            parts_upload_urls=[await self._store.part_url(staged, number, lifetime) for number in range(1, count + 1)],
            complete_upload_url=await self._store.completion_url(staged, lifetime),
            max_part_size=transfer.part_size,
        )

    async def offer_download(self, transfer: Transfer) -> S3Directives:
        """Return a URL that is valid when `export` has ended."""
        staged = await self._begin(transfer)
        url = await self._store.download_url(staged, _lifetime(transfer))
        return S3Directives(transfer_method="s3", download_url=url)

    async def import_(self, transfer: Transfer) -> None:
        """Wait until an upload is complete in the store, and write it to its target, part by part.

        Raises:
            TransferError: the upload did not arrive in time, or differs from the announcement.
        """
        staged = await self._staged(transfer)
        head = await self._arrival(transfer, staged)
        if head.size != transfer.size:
            raise TransferError(f"The object has {head.size} bytes, not the {transfer.size} that were announced.")
        files = self._files(transfer.username)
        stored = await self._records.parts(transfer.transfer_id)
        resumed = bool(stored)
        for number in range(1, parts.count(transfer.size, transfer.part_size) + 1):
            while number not in stored:
                offset, length = parts.extent(transfer.size, transfer.part_size, number)
                chunks = self._store.read(staged, head, offset, length)
                try:
                    stored[number] = await files.uploads.piece(
                        transfer.path, transfer.transfer_id, offset, length, chunks
                    )
                    await self._records.add_part(transfer.transfer_id, number, stored[number])
                except GatewayUnavailableError:
                    await self._wait(transfer)
                finally:
                    await chunks.aclose()  # type: ignore[attr-defined]
        _check(head, stored)
        try:
            await files.uploads.finish(transfer.path, transfer.transfer_id)
        except FileMissingError:
            if not resumed:  # otherwise the gateway was killed just after the rename
                raise

    async def export(self, transfer: Transfer) -> None:
        """Write a file of the system to the store.

        Raises:
            TransferError: the file changed meanwhile, or the store did not respond in time.
        """
        staged = await self._staged(transfer)
        etags: list[str] = []
        count = max(1, parts.count(transfer.size, transfer.part_size))
        while True:
            try:
                file = await self._files(transfer.username).open(transfer.path)
                try:
                    if file.size != transfer.size:
                        raise TransferError("The file changed since the transfer began.", hint="Start it again.")
                    for number in range(len(etags) + 1, count + 1):
                        offset = (number - 1) * transfer.part_size
                        length = min(transfer.part_size, transfer.size - offset)
                        chunks = file.chunks(offset, length)
                        etags.append(await self._store.put_part(staged, number, length, chunks))
                finally:
                    await file.close()
                return await self._complete(staged, etags)
            except GatewayUnavailableError:
                await self._wait(transfer)

    async def clean(self, transfer: Transfer, state: str) -> None:
        """Remove the objects of an ended transfer. A finished download stays until its URL has expired."""
        if transfer.kind == "upload" and state != "COMPLETED":
            await self._files(transfer.username).uploads.discard(transfer.path, transfer.transfer_id)
        if transfer.kind == "upload" or state != "COMPLETED":
            await self._drop(await self._objects.get(transfer.transfer_id))

    async def sweep(self) -> None:
        """Remove objects whose transfers have ended."""
        for staged in await self._objects.all():
            transfer = await self._records.get(staged.transfer_id)
            ended = transfer is None or (transfer.state in ENDED and transfer.state != "COMPLETED")
            if transfer is None or ended or (transfer.state in ENDED and self._is_over(transfer)):
                await self._drop(staged)

    def wake(self, transfer_id: str) -> None:
        """Check an upload now, because a client asks for its state."""
        if transfer_id in self._nudges:
            self._nudges[transfer_id].set()

    def _is_over(self, transfer: Transfer) -> bool:
        return transfer.kind == "upload" or transfer.expires < time.time()

    async def _begin(self, transfer: Transfer) -> StagedObject:
        bucket, key = bucket_of(self._config.bucket_prefix, transfer.username), _key_of(transfer)
        await self._store.ensure_bucket(bucket)
        try:
            upload_id = await self._store.begin(bucket, key)
        except FileMissingError:  # the bucket was removed meanwhile
            self._store.forget_bucket(bucket)
            await self._store.ensure_bucket(bucket)
            upload_id = await self._store.begin(bucket, key)
        staged = StagedObject(transfer_id=transfer.transfer_id, bucket=bucket, key=key, upload_id=upload_id)
        await self._objects.put(staged)
        return staged

    async def _staged(self, transfer: Transfer) -> StagedObject:
        staged = await self._objects.get(transfer.transfer_id)
        if staged is None:
            raise TransferError("The object of this transfer is gone.", hint="Start the transfer again.")
        return staged

    async def _complete(self, staged: StagedObject, etags: list[str]) -> None:
        try:
            await self._store.complete(staged, etags)
        except FileMissingError:  # perhaps complete, and the answer was lost
            await self._store.head(staged)

    async def _arrival(self, transfer: Transfer, staged: StagedObject) -> Head:
        """Return the object of an upload once it is complete."""
        nudge = self._nudges[transfer.transfer_id] = asyncio.Event()
        try:
            while True:
                try:
                    return await self._store.head(staged)
                except FileMissingError:
                    if time.time() > transfer.expires:
                        raise TransferError("The upload was not completed in time.") from None
                except GatewayUnavailableError:
                    await self._wait(transfer)
                pause = min(max((time.time() - transfer.created) / 20, _SOON), _LATE)
                await asyncio.sleep(_AT_ONCE)
                try:
                    async with asyncio.timeout(pause):
                        await nudge.wait()
                except TimeoutError:
                    continue
                finally:
                    nudge.clear()
        finally:
            del self._nudges[transfer.transfer_id]

    async def _wait(self, transfer: Transfer) -> None:
        """Wait before the next attempt, as long as time remains."""
        if time.time() > transfer.expires:
            raise TransferError("The object store or the system did not answer in time.", hint="Start it again.")
        await asyncio.sleep(_PAUSE)

    async def _drop(self, staged: StagedObject | None) -> None:
        if staged is not None:
            await self._store.drop(staged)
            await self._objects.forget(staged.transfer_id)


def _lifetime(transfer: Transfer) -> int:
    """Return the lifetime of URLs in seconds. S3 allows at most a week."""
    return min(max(1, int(transfer.expires - time.time())), 7 * 86400)


def _check(head: Head, stored: dict[int, str]) -> None:
    """Compare the written parts with the store's ETag, if it is made of the parts' MD5 sums."""
    digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(stored.items()))
    made = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(stored)}"
    comparable = re.fullmatch(rf"[0-9a-f]{{32}}-{len(stored)}", head.etag) and not head.encrypted
    if comparable and head.etag != made:
        raise TransferError("The file is not what was uploaded: its checksum differs.", hint="Send it again.")


def bucket_of(prefix: str, username: str) -> str:
    """Return the bucket of a user: `<prefix><user>`, or a name with a digest if S3 does not allow that name."""
    plain = f"{prefix}{username}"
    if len(plain) <= _LONGEST_BUCKET and re.fullmatch(r"[a-z0-9][a-z0-9-]+[a-z0-9]", plain, re.ASCII):
        return plain
    digest = hashlib.sha256(username.encode()).hexdigest()[:16]
    readable = re.sub(r"[^a-z0-9]+", "-", username.lower(), flags=re.ASCII).strip("-")
    room = _LONGEST_BUCKET - len(prefix) - len(digest) - 1
    return f"{prefix}{readable[:room]}-{digest}".replace("--", "-")


def _key_of(transfer: Transfer) -> str:
    """Return `<transfer>/<file name>`, so that a browser saves a download under its name."""
    name = transfer.path.rpartition("/")[2].encode("utf-8", "replace").decode()
    return f"{transfer.transfer_id}/{name}" if len(name.encode()) < 900 else transfer.transfer_id
