"""Crestline's additions for files: ranges of bytes, resumable writes, directories as one tar stream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from litestar import Response, Router, get, head, post, put
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from crestline.gateway.deadline import OWN_LIMITS
from crestline.gateway.identity import Principal
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes import bodies
from crestline.gateway.routes.ranges import (
    PARTIAL_ANSWERS,
    IfNoneMatchHeader,
    IfRangeHeader,
    RangeHeader,
    file_answer,
)
from crestline.gateway.systems import SystemRuntime
from crestline.model import ConflictError, InvalidRequestError, TransferError
from crestline.wire.errors import ErrorBody
from crestline.wire.extensions import (
    CHECKSUM_HEADER,
    CRC_HEADER,
    UPLOAD_COMPLETE_HEADER,
    UPLOAD_ID_HEADER,
    UPLOAD_OFFSET_HEADER,
    ManifestAnswer,
    ManifestRequest,
    TarRequest,
)

FilePath = Annotated[str, QueryParameter(name="path", min_length=1, description="An absolute path")]
UploadId = Annotated[str | None, HeaderParameter(name=UPLOAD_ID_HEADER, min_length=1, max_length=256)]
TarCompression = Annotated[Literal["none", "gzip"], QueryParameter(name="compression")]

_SHA256 = re.compile("[0-9a-fA-F]{64}")
_CRC32 = re.compile("[0-9a-fA-F]{8}")


@get("/content", media_type="application/octet-stream", responses=PARTIAL_ANSWERS)
async def get_content(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    wanted: RangeHeader = None,
    if_range: IfRangeHeader = None,
    if_none_match: IfNoneMatchHeader = None,
) -> Response[Any]:
    """Return the bytes of a file, or a range of them."""
    file = await system.files(caller).open(path)
    return await file_answer(file, wanted=wanted, if_range=if_range, if_none_match=if_none_match)


@head("/content")
async def head_content(
    system: SystemDependency, caller: CallerDependency, path: FilePath, upload_id: UploadId = None
) -> Response[None]:
    """Return size and ETag of a file, or the progress of an upload."""
    files = system.files(caller)
    if upload_id is None:
        return await file_answer(await files.open(path), body=False)
    offset = await files.uploads.offset(path, upload_id)
    return Response(None, headers={UPLOAD_OFFSET_HEADER: str(offset), "Cache-Control": "no-store"})


@put("/content", status_code=204, request_max_body_size=None, operation_class=bodies.BYTES)
async def put_content(
    request: GatewayRequest,
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    upload_id: UploadId = None,
    offset: Annotated[int, HeaderParameter(name=UPLOAD_OFFSET_HEADER, ge=0, le=2**62)] = 0,
    complete: Annotated[str, HeaderParameter(name=UPLOAD_COMPLETE_HEADER, pattern=r"^\?[01]$")] = "?1",
    sha256: Annotated[str | None, HeaderParameter(name=CHECKSUM_HEADER)] = None,
    crc32: Annotated[str | None, HeaderParameter(name=CRC_HEADER)] = None,
) -> Response[None]:
    """Write a file, at once or in parts.

    The file appears, or changes, when the last byte has arrived and the checksum matches.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InvalidRequestError(f"{CHECKSUM_HEADER} is not a SHA-256.", hint="Send 64 hexadecimal digits.")
    if crc32 is not None and not _CRC32.fullmatch(crc32):
        raise InvalidRequestError(f"{CRC_HEADER} is not a CRC-32.", hint="Send 8 hexadecimal digits.")
    checksum = sha256 or crc32
    files = system.files(caller)
    try:
        if upload_id is None:
            if offset or complete != "?1":
                raise InvalidRequestError(
                    "A part of a file needs an upload to belong to.", hint=f"Send {UPLOAD_ID_HEADER}."
                )
            await files.write(path, request.stream(), checksum=checksum)
            return Response(None, status_code=204)
        await system.transfers.unfinished.touch(caller.username, files.check(path), upload_id)
        try:
            stored = await files.uploads.append(path, upload_id, offset, request.stream())
        except ConflictError as error:
            return _conflict(error, caller, await files.uploads.offset(path, upload_id))
        if complete == "?1":
            await files.uploads.finish(path, upload_id, checksum)
            await system.transfers.unfinished.forget(caller.username, files.check(path), upload_id)
    except TransferError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    return Response(
        None, status_code=204, headers={UPLOAD_OFFSET_HEADER: str(stored), UPLOAD_COMPLETE_HEADER: complete}
    )


@get("/tar", media_type="application/x-tar")
async def get_tar(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    compression: TarCompression = "none",
) -> Stream:
    """Return a directory as one tar stream."""
    return await _tar(system, caller, path, None, gzip=compression == "gzip")


@post("/tar", status_code=200, media_type="application/x-tar", scope="files:read")
async def post_tar(
    system: SystemDependency,
    caller: CallerDependency,
    data: JSONBody[TarRequest],
    compression: TarCompression = "none",
) -> Stream:
    """Return some files of a directory as one tar stream."""
    files = data.files
    if data.select is not None:
        files = list(await system.files(caller).select(data.path, data.select))
    return await _tar(system, caller, data.path, files, gzip=compression == "gzip")


@put("/tar", status_code=204, request_max_body_size=None, operation_class=bodies.BYTES)
async def put_tar(request: GatewayRequest, system: SystemDependency, caller: CallerDependency, path: FilePath) -> None:
    """Write the members of a tar stream below a directory."""
    await system.files(caller).untar(path, request.stream())


@post("/manifest", status_code=200, scope="files:read")
async def post_manifest(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[ManifestRequest]
) -> ManifestAnswer:
    """Return which of these files are missing or differ."""
    changed = await system.files(caller).changed(data.path, data.files)
    return ManifestAnswer(changed=list(changed))


def _conflict(error: ConflictError, caller: Principal, stands: int) -> Response[Any]:
    return Response(
        ErrorBody(message=str(error), user=caller.username),
        status_code=error.status,
        headers={UPLOAD_OFFSET_HEADER: str(stands)},
    )


async def _tar(system: SystemRuntime, caller: Principal, path: str, files: list[str] | None, *, gzip: bool) -> Stream:
    chunks = system.files(caller).tar(path, files, gzip=gzip)
    # An error of the path must be detected before the response begins.
    first = await anext(chunks, b"")
    return Stream(_chain(first, chunks), media_type="application/gzip" if gzip else "application/x-tar")


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


router = Router(
    "/filesystem/{system_name:str}/ops",
    route_handlers=[get_content, head_content, put_content, get_tar, post_tar, put_tar, post_manifest],
    opt={"area": "files", OWN_LIMITS: True},
    tags=["crestline"],
)
