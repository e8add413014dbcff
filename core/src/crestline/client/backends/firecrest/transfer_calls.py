"""`/filesystem/{system}/transfer` of FirecREST: what it does in a job of the scheduler."""

from __future__ import annotations

import contextlib
import posixpath
import re
import secrets
from collections.abc import Callable
from typing import Any, cast

import msgspec

from crestline.client.backends import file_scripts
from crestline.client.backends.base import JobEndpoints, SystemEndpoints, TransferEndpoints
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.lost_answers import never, settle
from crestline.client.backends.messages import JobFilter, TransferMethod
from crestline.client.backends.transport import RetryMode
from crestline.client.remote_names import is_job_safe_path, is_temporary, temporary_name
from crestline.model import (
    CrestlineError,
    FileMissingError,
    InvalidRequestError,
    Job,
    JobSpec,
    TransferError,
    UnsupportedError,
)
from crestline.model.text import printable
from crestline.wire.filesystem import (
    DownloadRequest,
    FileContentAnswer,
    TransferAnswer,
    UploadAnswer,
    UploadRequest,
)

# A failed transfer job ends like a good one; only its log tells (FirecREST's own clients read these sentences).
_GOOD = (file_scripts.DONE, "File was successfully", "Multipart file upload successfully completed")

_NAME = "crestline-files"
"""of jobs that run a script of our own"""


class TransferCalls(TransferEndpoints):
    """The transfer jobs of one system."""

    def __init__(self, calls: Calls, jobs: JobEndpoints, system: SystemEndpoints) -> None:
        self._calls = calls
        self._jobs = jobs
        self._system = system

    def fits_in_job(self, *paths: str) -> bool:
        """Whether these paths may enter the scripts of the gateway's own transfer jobs.

        Raises:
            InvalidRequestError: one is not absolute, or the account that is charged could change a script.
        """
        for path in paths:
            if not path.startswith("/") or "\0" in path:
                raise InvalidRequestError(f"{path!r} is not an absolute path.", hint="Begin it with '/'.")
        if self._calls.capabilities:
            return True
        self._check_account()
        return all(is_job_safe_path(path) for path in paths)

    def _check_account(self) -> None:
        if self._calls.account is not None and not is_job_safe_path(self._calls.account):
            raise InvalidRequestError(
                f"Invalid account {self._calls.account!r}.", hint="Correct `account` of the site."
            )

    async def upload(self, path: str, size: int) -> TransferMethod:
        self._check_for_job(path)
        directives = {"transferMethod": "s3", "fileSize": size}
        body = UploadRequest(path=path, transfer_directives=directives, account=self._calls.account)
        word = re.compile(rf"(?<![\w./+@%:,-]){re.escape(path)}(?![\w./+@%:,-])")

        async def cancel_lost() -> bool:
            """The job of a lost answer waits for a file whose URLs are lost too."""
            for job_id in await self._matching_jobs(
                "IngressFileTransfer", lambda job: bool(word.search(job.script or ""))
            ):
                await self._jobs.cancel(job_id)
            return False

        return cast(TransferMethod, await settle(lambda: self._begin("upload", body), cancel_lost))

    async def download(self, path: str) -> TransferMethod:
        self._check_for_job(path)
        directives = {"transferMethod": "s3"}
        body = DownloadRequest(path=path, transfer_directives=directives, account=self._calls.account)
        return cast(TransferMethod, await settle(lambda: self._begin("download", body), never))

    def _check_for_job(self, path: str) -> None:
        if not self.fits_in_job(path):
            raise InvalidRequestError(
                f"Plain FirecREST's transfer jobs cannot be given the path {path!r}.", hint="Rename the file."
            )
        if not self._calls.capabilities and self._calls.transfer_service != "s3":
            offer = f"only {self._calls.transfer_service!r}" if self._calls.transfer_service else "nothing"
            raise UnsupportedError(
                f"{self._calls.system_name} offers {offer} for large files, and this needs S3.",
                hint="Ask the site for S3.",
            )

    async def stage(self, path: str, name: str) -> TransferMethod:
        return await self.begin_script(file_scripts.stage(path, name))

    async def split(self, path: str, pieces: str, size: int) -> TransferMethod:
        job = await self.begin_script(file_scripts.split(path, pieces, size))
        return msgspec.structs.replace(job, pieces=pieces, part_size=size)

    async def join(self, pieces: str, path: str, checksum: str) -> TransferMethod:
        part = posixpath.join(posixpath.dirname(path), temporary_name(".part"))
        return await self.begin_script(file_scripts.join(pieces, path, part, checksum))

    async def _begin(self, verb: str, body: UploadRequest | DownloadRequest) -> TransferMethod:
        path = f"/filesystem/{self._calls.system_name}/transfer/{verb}"
        answer = await self._calls._fetch(
            UploadAnswer, path, method="post", expect=201, how=RetryMode.NON_IDEMPOTENT, body=body
        )
        directives = answer.transfer_directives
        return TransferMethod(
            job_id=answer.transfer_job.job_id,
            part_urls=tuple(directives.parts_upload_urls or ()),
            complete_url=directives.complete_upload_url,
            download_url=directives.download_url,
            part_size=directives.max_part_size or 0,
            log=answer.transfer_job.logs.output_log,
            error_log=answer.transfer_job.logs.error_log,
        )

    async def begin_command(self, method: str, verb: str, *, expect: int, **content: Any) -> TransferMethod:
        """Begin a transfer job of the gateway."""
        path = f"/filesystem/{self._calls.system_name}/transfer/{verb}"
        answer = await self._calls._fetch(
            TransferAnswer, path, method=method, expect=expect, how=RetryMode.NON_IDEMPOTENT, **content
        )
        job = answer.transfer_job
        return TransferMethod(job_id=job.job_id, log=job.logs.output_log, error_log=job.logs.error_log)

    async def begin_script(self, commands: str) -> TransferMethod:
        """Submit a script of our own, where the site wants its transfer jobs to run.

        Raises:
            InvalidRequestError: the site wants an account for that, and none is configured.
        """
        self._check_account()
        directives = "\n".join(self._calls.transfer_directives)
        if "{account}" in directives:
            if self._calls.account is None:
                raise InvalidRequestError(
                    f"{self._calls.system_name} needs an account for transfer jobs.", hint="Set `account` of the site."
                )
            directives = directives.replace("{account}", self._calls.account)
        workdir = await self._system.default_workdir()
        output = posixpath.join(workdir, temporary_name(".log"))
        spec = JobSpec(
            script=file_scripts.render(tuple(directives.splitlines()), commands),
            workdir=workdir,
            name=_NAME,
            stdout=output,
            stderr=output,
            account=self._calls.account,
        )
        key = secrets.token_hex()
        found: list[str] = []

        async def is_done() -> bool:
            found.extend(await self._matching_jobs(_NAME, lambda job: job.stdout == output))
            return bool(found)

        job_id = await settle(lambda: self._jobs.submit(spec, key), is_done)
        return TransferMethod(job_id=job_id or found[0], log=output)

    async def _matching_jobs(self, name: str, is_meant: Callable[[Job], bool]) -> list[str]:
        """Ids of the caller's jobs of this name whose metadata show that they are meant."""
        jobs = [job for job in await self._jobs.list(JobFilter()) if job.name == name]
        return [job.job_id for job in jobs if any(map(is_meant, await self._jobs.metadata(job.job_id)))]

    async def end(self, transfer: TransferMethod, job: Job) -> None:
        log = transfer.log
        said = await self._read_log(log, "tail")
        is_good = any(sentence in said for sentence in _GOOD)
        if job.state.is_success and not is_good:  # what a job packed comes behind the sentence
            begin = await self._read_log(log, "head")
            is_good = any(sentence in begin for sentence in _GOOD)
        if not (job.state.is_success and is_good):
            reasons = (await self._read_log(transfer.error_log, "head")).split("\n") if transfer.error_log else []
            reason = next(filter(None, map(str.strip, [*reasons, *reversed(said.split("\n"))])), "its log is empty")
            raise TransferError(
                f"The transfer job {transfer.job_id} failed: {printable(reason)[:200]}",
                hint=f"See {transfer.error_log or log} on the system.",
            )
        if is_temporary(posixpath.basename(log)):
            with contextlib.suppress(CrestlineError):  # it is in the way, but harmless
                await self._calls._request(
                    "delete", f"/filesystem/{self._calls.system_name}/ops/rm", expect=204, params={"path": log}
                )

    async def _read_log(self, path: str, end: str) -> str:
        """The last (`tail`) or first (`head`) lines of a job's output; nothing where there is none."""
        url, params = f"/filesystem/{self._calls.system_name}/ops/{end}", {"path": path, "lines": 20}
        try:
            content = (await self._calls._fetch(FileContentAnswer, url, params=params)).output
        except FileMissingError:
            return ""
        return content.content if content else ""
