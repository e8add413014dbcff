"""`/filesystem/{system}/ops` of FirecREST: what it does at once."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec

from crestline.client.backends import file_scripts
from crestline.client.backends.base import SystemEndpoints
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.firecrest.content_calls import ContentCalls
from crestline.client.backends.firecrest.transfer_calls import TransferCalls
from crestline.client.backends.lost_answers import exists, is_link, is_missing, never, settle
from crestline.client.backends.messages import TransferMethod
from crestline.client.backends.transport import RetryMode
from crestline.client.remote_names import temporary_name, unescaped
from crestline.model import (
    File,
    FileMissingError,
    FileType,
    GatewayUnavailableError,
    InvalidRequestError,
    TransferError,
)
from crestline.wire.filesystem import (
    Checksum,
    CompressRequest,
    CopyRequest,
    ExtractRequest,
    FileContent,
    FileEntry,
    FileStat,
    MoveRequest,
    TextAnswer,
)


class FileCalls(ContentCalls):
    """The files of one system."""

    def __init__(self, calls: Calls, transfers: TransferCalls, system: SystemEndpoints) -> None:
        super().__init__(calls)
        self._transfers = transfers
        self._system = system

    @property
    def _ops(self) -> str:
        return f"/filesystem/{self._calls.system_name}/ops"

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        self._safe(path)
        numbers = await self._calls._result(
            lambda: self._calls._api.stat(self._calls.system_name, path, dereference=follow), FileStat
        )
        return msgspec.to_builtins(numbers)  # type: ignore[no-any-return]

    async def checksum(self, path: str) -> str:
        self._safe(path)
        if not self._calls.capabilities and any(character.isspace() for character in path):
            # FirecREST cannot read sha256sum's answer for such a name.
            link = posixpath.join(await self._system.default_workdir(), temporary_name())
            await self.symlink(path, link)
            try:
                return await self.checksum(link)
            finally:
                with anyio.CancelScope(shield=True):
                    await self.remove(link)
        send = partial(self._calls._api.checksum, self._calls.system_name, path)
        answer = await self._calls._result(send, Checksum, RetryMode.UNLESS_TIMED_OUT)
        return answer.checksum.removeprefix("\\")  # sha256sum's mark for a name in which it escapes something

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        self._safe(path)
        if parents:  # what is there already is not an error, so it may be repeated
            await self._calls._result(
                lambda: self._calls._api.mkdir(self._calls.system_name, path, create_parents=True), Any
            )
        else:
            await self._change(
                lambda: self._calls._api.mkdir(self._calls.system_name, path), lambda: exists(self, path)
            )

    async def symlink(self, target: str, link: str) -> None:
        self._safe(link, posixpath.join("/", target))
        await self._change(
            lambda: self._calls._api.symlink(self._calls.system_name, target, link),
            lambda: is_link(self, link, target),
        )

    async def chmod(self, path: str, mode: str) -> File | None:
        self._safe(path, f"/{mode}")

        async def send() -> list[Any]:
            changed = await self._calls._api.chmod(self._calls.system_name, path, mode)
            return [changed] if changed else []

        found = await self._calls._result(send, list[FileEntry])
        return self._file(found[0]) if found else None

    async def remove(self, path: str) -> TransferMethod | None:
        self._safe(path)

        async def send() -> TransferMethod | None:
            try:
                await self._calls._request(
                    "delete", f"{self._ops}/rm", expect=204, how=RetryMode.NON_IDEMPOTENT, params={"path": path}
                )
            except GatewayUnavailableError as error:
                if error.status == 408 or "status:124" in error.message:
                    return await self._remove_in_job(path)
                raise
            return None

        return await settle(send, lambda: is_missing(self, path))

    async def copy(self, source: str, target: str) -> TransferMethod:
        if self._transfers.fits_in_job(source, target):
            body = CopyRequest(path=source, target_path=target, account=self._calls.account)
            return await self._transfers.begin_command("post", "cp", expect=201, body=body)
        return await self._transfers.begin_script(file_scripts.copy(source, target))

    async def move(self, source: str, target: str) -> TransferMethod:
        if self._transfers.fits_in_job(source, target):
            body = MoveRequest(path=source, target_path=target, account=self._calls.account)
            return await self._transfers.begin_command("post", "mv", expect=201, body=body)
        return await self._transfers.begin_script(file_scripts.move(source, target))

    async def _remove_in_job(self, path: str) -> TransferMethod:
        if self._transfers.fits_in_job(path):
            params = {"path": path, "account": self._calls.account}
            return await self._transfers.begin_command("delete", "rm", expect=200, params=params)
        return await self._transfers.begin_script(file_scripts.remove(path))

    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        self._safe(directory, f"/{name}")
        path = posixpath.join(directory, name)
        how: RetryMode = RetryMode.IDEMPOTENT if self._calls.capabilities else RetryMode.NON_IDEMPOTENT
        for is_last in (False, False, True):
            try:
                await self._calls._request(
                    "post",
                    f"{self._ops}/upload",
                    expect=204,
                    how=how,
                    params={"path": directory},
                    files={"file": (name, content)},
                )
                return
            except GatewayUnavailableError as error:
                # It may be there, and only the answer be lost: plain FirecREST never answers an upload of no bytes.
                if self._calls.capabilities:
                    raise
                if await self._holds(directory, path, content):
                    return
                if is_last and "Channel not open" in error.message:
                    raise TransferError(
                        f"{path} cannot be written: the gateway's command ended before it had read the file.",
                        hint="Check the permissions of its directory, and the quota.",
                    ) from error
                if is_last:
                    raise

    async def _holds(self, directory: str, path: str, content: bytes) -> bool:
        """Whether a file has this content.

        Raises:
            FileMissingError: its directory does not exist.
        """
        try:
            if (await self.stat(path))["size"] != len(content):
                return False
            return not content or await self.checksum(path) == hashlib.sha256(content).hexdigest()
        except FileMissingError:
            await self.stat(directory)
            return False

    async def download_small(self, path: str) -> bytes:
        self._safe(path)
        return (await self._calls._request("get", f"{self._ops}/download", expect=200, params={"path": path})).content

    async def tail_lines(self, path: str, first: int) -> str:
        self._safe(path)
        part = await self._calls._result(
            lambda: self._calls._api.tail(self._calls.system_name, path, num_lines=first, exclude_beginning=True),
            FileContent,
        )
        return part.content

    async def view(self, path: str, offset: int, size: int) -> str:
        self._safe(path)
        params = {"path": path, "offset": offset, "size": size}
        return (await self._calls._fetch(TextAnswer, f"{self._ops}/view", params=params)).output or ""

    async def extract(self, archive: str, target: str) -> TransferMethod | None:
        body = ExtractRequest(path=archive, target_path=target, account=self._calls.account)
        return await self._begin_tar("extract", body)

    async def compress(self, source: str, archive: str, *, pattern: str | None = None) -> TransferMethod | None:
        body = CompressRequest(path=source, target_path=archive, match_pattern=pattern, account=self._calls.account)
        return await self._begin_tar("compress", body)

    async def _begin_tar(self, verb: str, body: CompressRequest | ExtractRequest) -> TransferMethod | None:
        """Pack or unpack directly, or as a job where that takes longer than a request may."""
        pattern = body.match_pattern if isinstance(body, CompressRequest) else None
        fits = self._transfers.fits_in_job(body.path, body.target_path)
        if pattern is not None and not self._calls.capabilities:
            # With a pattern, FirecREST's direct command holds these in double quotes, and one without any.
            fits = fits and file_scripts.is_safe_regex(pattern)
        if pattern is None or fits:
            self._safe(body.path, body.target_path)

            async def send() -> bool:
                await self._calls._request(
                    "post", f"{self._ops}/{verb}", expect=204, how=RetryMode.NON_IDEMPOTENT, body=body
                )
                return True

            async def send_job() -> TransferMethod:
                return await self._transfers.begin_command("post", verb, expect=201, body=body)

            try:
                await settle(send, never, final=(408, 500))
            except GatewayUnavailableError as error:
                if error.status != 408:
                    raise
            else:
                return None
            if fits:
                return await settle(send_job, never)
        if isinstance(body, ExtractRequest):
            commands = file_scripts.extract(body.path, body.target_path)
        else:
            directory, name = posixpath.split(body.path)
            commands = file_scripts.compress(directory, name, body.target_path, pattern)
        return await self._transfers.begin_script(commands)

    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        self._safe(path)

        async def send() -> Any:
            return (
                await self._calls._api.list_files(
                    self._calls.system_name, path, show_hidden=hidden, recursive=recursive
                )
                or []
            )

        entries = await self._calls._result(
            send, list[FileEntry], RetryMode.UNLESS_TIMED_OUT if recursive else RetryMode.IDEMPOTENT
        )
        return [self._file(entry) for entry in entries]

    def _safe(self, *paths: str) -> None:
        """Plain FirecREST puts paths between single quotes of a shell as they are.

        Raises:
            InvalidRequestError: a path that would break out of them, or is not absolute.
        """
        for path in paths:
            if not path.startswith("/"):
                raise InvalidRequestError(f"{path!r} is not an absolute path.", hint="Begin it with '/'.")
            if not self._calls.capabilities and any(character in path for character in "'\n\r\0"):
                raise InvalidRequestError(
                    f"Plain FirecREST cannot handle the path {path!r}.", hint="Avoid quotes and line breaks in names."
                )

    def _file(self, entry: FileEntry) -> File:
        file = _file_of(entry)
        if self._calls.capabilities:
            return file
        target = unescaped(file.link_target) if file.link_target is not None else None
        return msgspec.structs.replace(file, name=unescaped(file.name), link_target=target)

    async def _change(self, send: Any, is_done: Callable[[], Awaitable[bool]]) -> None:
        await settle(lambda: self._calls._result(send, Any, how=RetryMode.NON_IDEMPOTENT), is_done)


def _file_of(entry: FileEntry) -> File:
    try:
        kind = FileType(entry.type[:1])
    except ValueError:
        kind = FileType.FILE
    return File(
        name=entry.name,
        type=kind,
        size=int(entry.size) if entry.size.isdigit() else 0,
        permissions=entry.permissions,
        user=entry.user,
        group=entry.group,
        modified=entry.last_modified,
        link_target=entry.link_target,
    )
