"""`/filesystem/{system}/transfer` of FirecREST: what it does in a job of the scheduler."""

from __future__ import annotations

from typing import Any

from crestline.client.backends.base import TransferMethod
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.monitor import JobMonitor
from crestline.model import InvalidRequestError, MissingFileError, TransferError
from crestline.wire.filesystem import (
    CopyRequest,
    DownloadRequest,
    FileContentAnswer,
    MoveRequest,
    TransferAnswer,
    UploadAnswer,
    UploadRequest,
)

# A failed transfer job ends like a good one; only its log tells (FirecREST's own clients read these sentences).
_GOOD = ("Files were successfully", "File was successfully", "Multipart file upload successfully completed")


class TransferCalls(Calls):
    """The transfer jobs of one system."""

    system: str
    account: str | None
    features: frozenset[str]
    monitor: JobMonitor

    def _safe(self, *paths: str) -> None:
        """Plain FirecREST puts paths between single quotes of a shell as they are.

        Raises:
            InvalidRequestError: a path that would break out of them, or is not absolute.
        """
        for path in paths:
            if not path.startswith("/"):
                raise InvalidRequestError(f"{path!r} is not an absolute path.", hint="Begin it with '/'.")
            if not self.features and any(character in path for character in "'\n\r\0"):
                raise InvalidRequestError(
                    f"Plain FirecREST cannot handle the path {path!r}.", hint="Avoid quotes and line breaks in names."
                )

    def _safe_in_job(self, *paths: str) -> None:
        """Plain FirecREST writes paths into job scripts with HTML entities for `&<>"`."""
        self._safe(*paths)
        for path in paths:
            if not self.features and any(character in path for character in '&<>"'):
                raise InvalidRequestError(
                    f"Plain FirecREST cannot transfer {path!r}.", hint='Avoid & < > " in the names of large files.'
                )

    async def copy(self, source: str, target: str) -> None:
        self._safe_in_job(source, target)
        body = CopyRequest(path=source, target_path=target, account=self.account)
        await self._run_transfer("post", "cp", expect=201, body=body)

    async def move(self, source: str, target: str) -> None:
        self._safe_in_job(source, target)
        body = MoveRequest(path=source, target_path=target, account=self.account)
        await self._run_transfer("post", "mv", expect=201, body=body)

    async def begin_upload(self, path: str, size: int) -> TransferMethod:
        self._safe_in_job(path)
        directives = {"transferMethod": "s3", "fileSize": size}
        return await self._begin(
            "upload", UploadRequest(path=path, transfer_directives=directives, account=self.account)
        )

    async def begin_download(self, path: str) -> TransferMethod:
        self._safe_in_job(path)
        directives = {"transferMethod": "s3"}
        return await self._begin(
            "download", DownloadRequest(path=path, transfer_directives=directives, account=self.account)
        )

    async def end_transfer(self, transfer: TransferMethod) -> None:
        await self._finish(transfer.job_id, transfer.log)

    async def _begin(self, verb: str, body: UploadRequest | DownloadRequest) -> TransferMethod:
        response = await self._request(
            "post", f"/filesystem/{self.system}/transfer/{verb}", expect=201, how="once", body=body
        )
        answer = self._read(response, UploadAnswer)
        directives = answer.transfer_directives
        return TransferMethod(
            job_id=answer.transfer_job.job_id,
            part_urls=tuple(directives.parts_upload_urls or ()),
            complete_url=directives.complete_upload_url,
            download_url=directives.download_url,
            part_size=directives.max_part_size or 0,
            log=answer.transfer_job.logs.output_log,
        )

    async def _run_transfer(self, method: str, verb: str, *, expect: int, **content: Any) -> None:
        """Start a transfer job and wait until it has done its work."""
        await self.end_transfer(await self._begin_command(method, verb, expect=expect, **content))

    async def _begin_command(self, method: str, verb: str, *, expect: int, **content: Any) -> TransferMethod:
        response = await self._request(
            method, f"/filesystem/{self.system}/transfer/{verb}", expect=expect, how="once", **content
        )
        job = self._read(response, TransferAnswer).transfer_job
        return TransferMethod(job_id=job.job_id, log=job.logs.output_log)

    async def _finish(self, job_id: str, log: str) -> None:
        job = await self.monitor.wait(job_id)
        try:
            params = {"path": log, "lines": 20}
            response = await self._request("get", f"/filesystem/{self.system}/ops/tail", expect=200, params=params)
        except MissingFileError:
            said = ""
        else:
            content = self._read(response, FileContentAnswer).output
            said = content.content if content else ""
        if not job.state.is_success or not any(sentence in said for sentence in _GOOD):
            last = said.strip().splitlines()[-1:] or ["its log is empty"]
            raise TransferError(
                f"The transfer job {job_id} failed ({job.raw_state}): {last[0][:200]}",
                hint=f"See {log} on the system.",
            )
