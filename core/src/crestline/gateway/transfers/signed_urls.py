"""Requests by the signed URLs of a transfer: parts in any order, their completion, and downloads.

Requests and responses are those of S3's multipart upload, as FirecREST's clients send them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from crestline.gateway.hosts import Files, OpenFile
from crestline.gateway.identity import Principal
from crestline.gateway.transfers import parts
from crestline.gateway.transfers.finalize import Finalizer
from crestline.gateway.transfers.records import Transfer, TransferRecords
from crestline.gateway.transfers.signing import UrlSigner
from crestline.model import ConflictError, CrestlineError, InvalidRequestError, NotFoundError

Allow = Callable[[Principal], Awaitable[None]]
"""Raises a `CrestlineError` if the user who started a transfer may no longer continue it."""


@dataclass(frozen=True)
class SignedRequest:
    """The parts of a signed URL that its signature covers, and the signature."""

    transfer_id: str
    expires: str
    """seconds since the epoch, as digits"""
    signature: str


class SignedUrls:
    """Creates the URLs of one system's transfers, and carries out requests by them.

    A client with a URL can use it as long as the user who received it may use the system.
    """

    def __init__(
        self,
        system: str,
        signer: UrlSigner,
        records: TransferRecords,
        endings: Finalizer,
        files: Callable[[str], Files],
    ) -> None:
        """`files` returns the files of a user."""
        self._system = system
        self._signer = signer
        self._records = records
        self._endings = endings
        self._files = files

    def parts(self, transfer: Transfer) -> list[str]:
        """Return the URLs for the parts of an upload (PUT)."""
        numbers = range(1, parts.count(transfer.size, transfer.part_size) + 1)
        return [self._url("PUT", self._path(transfer.transfer_id, f"parts/{number}"), transfer) for number in numbers]

    def completion(self, transfer: Transfer) -> str:
        """Return the URL that completes an upload (POST)."""
        return self._url("POST", self._path(transfer.transfer_id, "complete"), transfer)

    def content(self, transfer: Transfer) -> str:
        return self._url("GET", self._path(transfer.transfer_id, "content"), transfer)

    async def put_part(
        self, signed: SignedRequest, number: int, length: int | None, body: AsyncIterator[bytes], allow: Allow
    ) -> str:
        """Store a part and return its ETag (MD5 in hexadecimal)."""
        transfer_id = signed.transfer_id
        transfer = await self._get("PUT", f"parts/{number}", signed, "upload", allow)
        if transfer.state != "RUNNING":
            raise NotFoundError(f"The upload is {transfer.state}.")
        offset, expected = parts.extent(transfer.size, transfer.part_size, number)
        if length is not None and length != expected:
            raise InvalidRequestError(f"Part {number} has {expected} bytes, not {length}.")
        etag = await self._files(transfer.username).uploads.piece(transfer.path, transfer_id, offset, expected, body)
        await self._records.add_part(transfer_id, number, etag)
        return etag

    async def complete(self, signed: SignedRequest, body: Callable[[], Awaitable[bytes]], allow: Allow) -> str:
        """Complete an upload and return the file's ETag in S3's form. No data is copied or read for it.

        `body` is read after the signature was verified.
        """
        transfer_id = signed.transfer_id
        transfer = await self._get("POST", "complete", signed, "upload", allow)
        stored = await self._records.parts(transfer_id)
        self._check_parts(transfer, await asyncio.to_thread(parts.read_completion, await body()), stored)
        digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(stored.items()))
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(stored)}"
        if transfer.state == "COMPLETED":  # the answer was lost, and the client repeats its request
            return etag
        if not await self._records.transition(transfer_id, ("RUNNING",), "COMPLETING"):
            raise ConflictError(f"The upload is {transfer.state} already.")
        try:
            await self._files(transfer.username).uploads.finish(transfer.path, transfer_id)
        except CrestlineError:
            await self._records.transition(transfer_id, ("COMPLETING",), "RUNNING")
            raise
        await self._endings.end(transfer, "COMPLETED", sources=("COMPLETING",))
        return etag

    async def open_download(self, signed: SignedRequest, allow: Allow) -> OpenFile:
        transfer = await self._get("GET", "content", signed, "download", allow)
        return await self._files(transfer.username).open(transfer.path)

    def _check_parts(self, transfer: Transfer, named: dict[int, str], stored: dict[int, str]) -> None:
        for number in range(1, parts.count(transfer.size, transfer.part_size) + 1):
            if number not in stored:
                raise parts.InvalidPartError(f"Part {number} was not sent.")
            if named.get(number) != stored[number]:
                raise parts.InvalidPartError(f"Part {number} is not listed with the ETag of what was sent.")
        if unknown := sorted(named.keys() - stored.keys()):
            raise parts.InvalidPartError(f"The upload has no part {unknown[0]}.")

    async def _get(self, method: str, what: str, signed: SignedRequest, kind: str, allow: Allow) -> Transfer:
        """Return the transfer, if the signature is valid and the user may still continue it."""
        self._signer.check(method, self._path(signed.transfer_id, what), signed.expires, signed.signature)
        transfer = await self._records.get(signed.transfer_id)
        if transfer is None or transfer.kind != kind:
            raise NotFoundError("The transfer has ended or expired.", hint="Start it again.")
        if (caller := transfer.started_by()) is not None:
            await allow(caller)
        return transfer

    def _url(self, method: str, path: str, transfer: Transfer) -> str:
        return self._signer.url(method, path, int(transfer.expires))

    def _path(self, transfer_id: str, what: str) -> str:
        return f"/transfers/{quote(self._system.lower())}/{transfer_id}/{what}"
