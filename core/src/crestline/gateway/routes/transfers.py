"""`/transfers`: what signed URLs lead to. They need no token and speak S3's XML."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Request, Response, Router, get, head, post, put
from litestar.params import Parameter

from crestline.gateway.routes import bodies
from crestline.gateway.routes.ranges import (
    PARTIAL_ANSWERS,
    IfNoneMatchHeader,
    IfRangeHeader,
    RangeHeader,
    file_answer,
)
from crestline.gateway.systems import SystemRuntime
from crestline.gateway.transfers import parts
from crestline.model import ConflictError, CrestlineError, NotFoundError, PermissionDeniedError, TooLargeError

_CODES: list[tuple[type[CrestlineError], str]] = [
    (parts.InvalidPartError, "InvalidPart"),
    (parts.MalformedXMLError, "MalformedXML"),
    (PermissionDeniedError, "AccessDenied"),
    (NotFoundError, "NoSuchUpload"),
    (ConflictError, "OperationAborted"),
    (TooLargeError, "EntityTooLarge"),
]
_MAX_COMPLETION = 4 * 1024 * 1024

TransferId = Annotated[str, Parameter(pattern="^t[0-9a-f]{16}$")]
Signed = Annotated[str, Parameter(max_length=128)]


@put(
    "/parts/{number:int}",
    status_code=200,
    summary="Store a part of an upload",
    request_max_body_size=None,
    operation_class=bodies.BYTES,
)
async def put_part(
    request: Request[Any, Any, Any],
    system: SystemRuntime,
    transfer_id: TransferId,
    number: int,
    expires: Signed = "",
    signature: Signed = "",
) -> Response[None]:
    length = request.headers.get("content-length", "")
    etag = await system.transfers.put_part(
        transfer_id, number, expires, signature, int(length) if length.isdigit() else None, request.stream()
    )
    return Response(None, headers={"ETag": f'"{etag}"'})


@post(
    "/complete",
    status_code=200,
    summary="Make an upload visible",
    media_type=MediaType.XML,
    request_max_body_size=_MAX_COMPLETION,
    operation_class=bodies.XML,
)
async def post_complete(
    request: Request[Any, Any, Any],
    system: SystemRuntime,
    transfer_id: TransferId,
    expires: Signed = "",
    signature: Signed = "",
) -> str:
    etag = await system.transfers.complete(transfer_id, expires, signature, await request.body())
    return parts.completion_answer(request.url.path, f'"{etag}"')


@get(
    "/content",
    summary="The bytes of an offered file, or a range of them",
    media_type="application/octet-stream",
    responses=PARTIAL_ANSWERS,
)
async def get_content(
    system: SystemRuntime,
    transfer_id: TransferId,
    expires: Signed = "",
    signature: Signed = "",
    wanted: RangeHeader = None,
    if_range: IfRangeHeader = None,
    if_none_match: IfNoneMatchHeader = None,
) -> Response[Any]:
    file = await system.transfers.open_download(transfer_id, expires, signature)
    return await file_answer(file, wanted=wanted, if_range=if_range, if_none_match=if_none_match)


@head("/content", summary="Size and ETag of an offered file")
async def head_content(
    system: SystemRuntime, transfer_id: TransferId, expires: Signed = "", signature: Signed = ""
) -> Response[None]:
    return await file_answer(await system.transfers.open_download(transfer_id, expires, signature), body=False)


def handle_refusal(request: Request[Any, Any, Any], error: CrestlineError) -> Response[str]:
    """An error as S3 words it."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "InvalidRequest")
    return Response(parts.error_answer(code, str(error)), status_code=error.status, media_type=MediaType.XML)


router = Router(
    "/transfers/{system_name:str}/{transfer_id:str}",
    route_handlers=[put_part, post_complete, get_content, head_content],
    exception_handlers={CrestlineError: handle_refusal},
    opt={"public": True},
    tags=["transfers"],
)
