"""`/transfers`: the targets of signed URLs. They need no token and use S3's XML."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import MediaType, Request, Response, Router, get, head, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter, QueryParameter

from crestline.gateway.deadline import OWN_LIMITS
from crestline.gateway.identity import Principal
from crestline.gateway.requests import GatewayRequest, SystemDependency
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
from crestline.gateway.transfers.signed_urls import Allow, SignedRequest
from crestline.model import (
    AuthenticationError,
    ConflictError,
    CrestlineError,
    NotFoundError,
    PermissionDeniedError,
    TooLargeError,
)
from crestline.wire.extensions import Scope

_CODES: list[tuple[type[CrestlineError], str]] = [
    (parts.InvalidPartError, "InvalidPart"),
    (parts.MalformedXMLError, "MalformedXML"),
    (PermissionDeniedError, "AccessDenied"),
    (NotFoundError, "NoSuchUpload"),
    (ConflictError, "OperationAborted"),
    (TooLargeError, "EntityTooLarge"),
]
_MAX_COMPLETION = 4 * 1024 * 1024

PartNumber = Annotated[int, PathParameter()]
Signed = NamedDependency[SignedRequest]
"""a handler's `signed`"""


def provide_signed(
    transfer_id: Annotated[str, PathParameter(pattern="^t[0-9a-f]{16}$")],
    expires: Annotated[str, QueryParameter(name="expires", max_length=128)] = "",
    signature: Annotated[str, QueryParameter(name="signature", max_length=128)] = "",
) -> SignedRequest:
    """The dependency `signed`. The signature is not verified yet."""
    return SignedRequest(transfer_id, expires, signature)


@put("/parts/{number:int}", status_code=200, request_max_body_size=None, operation_class=bodies.BYTES)
async def put_part(
    request: GatewayRequest, system: SystemDependency, signed: Signed, number: PartNumber
) -> Response[None]:
    """Store a part of an upload."""
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdigit() else None
    allow = _allow(request, system, "files:write")
    etag = await system.transfers.urls.put_part(signed, number, size, request.stream(), allow)
    return Response(None, headers={"ETag": f'"{etag}"'})


@post(
    "/complete",
    status_code=200,
    media_type=MediaType.XML,
    request_max_body_size=_MAX_COMPLETION,
    operation_class=bodies.XML,
)
async def post_complete(request: GatewayRequest, system: SystemDependency, signed: Signed) -> str:
    """Complete an upload."""
    allow = _allow(request, system, "files:write")
    etag = await system.transfers.urls.complete(signed, request.body, allow)
    return parts.completion_answer(request.url.path, f'"{etag}"')


@get("/content", media_type="application/octet-stream", responses=PARTIAL_ANSWERS)
async def get_content(
    request: GatewayRequest,
    system: SystemDependency,
    signed: Signed,
    wanted: RangeHeader = None,
    if_range: IfRangeHeader = None,
    if_none_match: IfNoneMatchHeader = None,
) -> Response[Any]:
    """Return the bytes of an offered file, or a range of them."""
    allow = _allow(request, system, "files:read")
    file = await system.transfers.urls.open_download(signed, allow)
    return await file_answer(file, wanted=wanted, if_range=if_range, if_none_match=if_none_match)


@head("/content")
async def head_content(request: GatewayRequest, system: SystemDependency, signed: Signed) -> Response[None]:
    """Return size and ETag of an offered file."""
    allow = _allow(request, system, "files:read")
    return await file_answer(await system.transfers.urls.open_download(signed, allow), body=False)


def _allow(request: GatewayRequest, system: SystemRuntime, scope: Scope) -> Allow:
    """Return a function that checks whether the user who received the URL may still do this."""

    async def allow(caller: Principal) -> None:
        try:
            await request.runtime.check_again(caller, scope, system)
        except AuthenticationError as error:
            raise PermissionDeniedError(error.message, hint=error.hint) from error

    return allow


def handle_refusal(request: Request[Any, Any, Any], error: CrestlineError) -> Response[str]:
    """Return an error in S3's format."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "InvalidRequest")
    return Response(parts.error_answer(code, str(error)), status_code=error.status, media_type=MediaType.XML)


router = Router(
    "/transfers/{system_name:str}/{transfer_id:str}",
    route_handlers=[put_part, post_complete, get_content, head_content],
    dependencies={"signed": Provide(provide_signed, sync_to_thread=False)},
    exception_handlers={CrestlineError: handle_refusal},
    opt={"public": True, OWN_LIMITS: True},
    tags=["transfers"],
)
