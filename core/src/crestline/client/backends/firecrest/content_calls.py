"""What a Crestline gateway adds for files: bytes by range, resumable writes, directories as one tar stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec

from crestline.client.backends.base import FileEndpoints
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.messages import BundleFilter
from crestline.model import InvalidRequestError, TransferError, UnsupportedError
from crestline.wire.extensions import (
    CRC_HEADER,
    UPLOAD_COMPLETE_HEADER,
    UPLOAD_ID_HEADER,
    UPLOAD_OFFSET_HEADER,
    ManifestAnswer,
    ManifestRequest,
    TarRequest,
    TarSelection,
)


class ContentCalls(FileEndpoints):
    """The additions `content` and `tar`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if length == 0:
            return
        end = "" if length is None else offset + length - 1
        headers = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}
        try:
            async with self._stream("GET", "content", path, headers=headers) as response:
                if offset and response.status_code != 206:
                    raise UnsupportedError(
                        f"{self._calls.gateway_url} ignores byte ranges.",
                        hint="A proxy before it may drop the Range header.",
                    )
                async for chunk in response.aiter_raw():
                    yield chunk
        except InvalidRequestError as error:
            if error.status != 416:  # nothing there (yet)
                raise

    async def upload_offset(self, path: str, upload_id: str) -> int:
        async with self._stream("HEAD", "content", path, headers={UPLOAD_ID_HEADER: upload_id}) as response:
            return int(response.headers.get(UPLOAD_OFFSET_HEADER, "0"))

    async def upload_part(
        self,
        path: str,
        upload_id: str,
        offset: int,
        content: AsyncIterator[bytes],
        length: int,
        *,
        last: bool,
        checksum: str | None,
    ) -> int:
        headers = {
            "Content-Length": str(length),  # a proxy that takes less can say so at once
            UPLOAD_ID_HEADER: upload_id,
            UPLOAD_OFFSET_HEADER: str(offset),
            UPLOAD_COMPLETE_HEADER: "?1" if last else "?0",
        }
        if checksum is not None:
            headers[CRC_HEADER] = checksum
        try:
            async with self._stream("PUT", "content", path, headers=headers, content=content) as response:
                return int(response.headers.get(UPLOAD_OFFSET_HEADER, "0"))
        except InvalidRequestError as error:
            if "CRC-32 is" in error.message:
                raise TransferError(error.message, hint=error.hint) from None
            raise

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        self._calls._need(Capability.TAR)
        body = ManifestRequest(path=path, files=checksums)
        place = f"/filesystem/{self._calls.system_name}/ops/manifest"
        return (await self._calls._fetch(ManifestAnswer, place, method="post", body=body)).changed

    async def put_tar(self, path: str, content: AsyncIterator[bytes]) -> None:
        async with self._stream("PUT", "tar", path, content=content):
            pass

    async def get_tar(self, path: str, files: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        if files is None:
            stream = self._stream("GET", "tar", path)
        else:
            body = msgspec.json.encode(TarRequest(path=path, files=list(files)))
            stream = self._stream("POST", "tar", None, headers={"Content-Type": "application/json"}, content=body)
        async with stream as response:
            async for chunk in response.aiter_raw():
                yield chunk

    async def select_tar(self, path: str, selections: Sequence[BundleFilter]) -> AsyncIterator[bytes]:
        self._calls._need(Capability.TAR_SELECT)
        select = [
            TarSelection(directory=each.directory, since=each.since, patterns=each.patterns) for each in selections
        ]
        body = msgspec.json.encode(TarRequest(path=path, select=select))
        headers = {"Content-Type": "application/json"}
        async with self._stream("POST", "tar", None, headers=headers, content=body) as response:
            async for chunk in response.aiter_raw():
                yield chunk

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        operation: str,
        path: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterator[bytes] | bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        self._calls._need(Capability(operation))
        params = {"path": path} if path is not None else None
        place = f"/filesystem/{self._calls.system_name}/ops/{operation}"
        async with self._calls._open(method, place, params=params, headers=headers, content=content) as response:
            yield response
