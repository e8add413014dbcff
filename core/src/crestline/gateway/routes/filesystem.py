"""`/filesystem/{system}/ops` and `/filesystem/{system}/transfer` of FirecREST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import Response, Router, delete, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.response import Stream

from crestline.gateway.answer_shares import shared_answers
from crestline.gateway.hosts import Files
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes import bodies, text_preview
from crestline.gateway.routes.multipart import FORM_OVERHEAD, FileField, too_large
from crestline.gateway.routes.preencoded import PreencodedResponse, encode_list
from crestline.gateway.routes.queries import normalize_query
from crestline.model import InvalidRequestError
from crestline.wire.filesystem import (
    ChecksumAnswer,
    ChmodRequest,
    ChownRequest,
    CompressRequest,
    CopyRequest,
    DownloadRequest,
    ExtractRequest,
    FileContentAnswer,
    FileEntriesAnswer,
    FileEntryAnswer,
    FileStatAnswer,
    MakeDirectoryRequest,
    MoveRequest,
    SymlinkRequest,
    TextAnswer,
    TransferAnswer,
    UploadAnswer,
    UploadRequest,
)

_MOST = 2**62  # largest file offset, with room for additions

FilePath = Annotated[str, QueryParameter(name="path", min_length=1, description="An absolute path")]
Dereference = Annotated[bool, QueryParameter(name="dereference")]


@get("/ops/ls", middleware=[shared_answers])
async def get_ls(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    show_hidden: Annotated[bool, QueryParameter(name="showHidden")] = False,
    numeric_uid: Annotated[bool, QueryParameter(name="numericUid")] = False,
    recursive: Annotated[bool, QueryParameter(name="recursive")] = False,
    dereference: Dereference = False,
) -> Response[FileEntriesAnswer]:
    """List a directory."""
    entries = await system.files(caller).list(
        path,  # with a slash at the end, the directory that a link leads to, as in ls(1)
        hidden=show_hidden,
        recursive=recursive,
        dereference=dereference,
        numeric=numeric_uid,
    )
    return PreencodedResponse.json(await encode_list("output", entries))


@get("/ops/head", middleware=[shared_answers])
async def get_head(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    byte_count: Annotated[int | None, QueryParameter(name="bytes", ge=-_MOST, le=_MOST)] = None,
    lines: Annotated[int | None, QueryParameter(name="lines", ge=-_MOST, le=_MOST)] = None,
    skip_trailing: Annotated[bool, QueryParameter(name="skipTrailing")] = False,
) -> FileContentAnswer:
    """Return the beginning of a file."""
    files, limit = system.files(caller), system.config.max_ops_file_size
    return FileContentAnswer(output=await text_preview.read_head(files, path, byte_count, lines, skip_trailing, limit))


@get("/ops/tail", middleware=[shared_answers])
async def get_tail(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    byte_count: Annotated[int | None, QueryParameter(name="bytes", ge=-_MOST, le=_MOST)] = None,
    lines: Annotated[int | None, QueryParameter(name="lines", ge=-_MOST, le=_MOST)] = None,
    skip_heading: Annotated[bool, QueryParameter(name="skipHeading")] = False,
) -> FileContentAnswer:
    """Return the end of a file."""
    files, limit = system.files(caller), system.config.max_ops_file_size
    return FileContentAnswer(output=await text_preview.read_tail(files, path, byte_count, lines, skip_heading, limit))


@get("/ops/view", middleware=[shared_answers])
async def get_view(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    size: Annotated[int | None, QueryParameter(name="size")] = None,
    offset: Annotated[int, QueryParameter(name="offset")] = 0,
) -> TextAnswer:
    """Return the text of a small file, or a page of a larger one."""
    limit = system.config.max_ops_file_size
    if not 0 <= offset <= _MOST:
        raise InvalidRequestError("`offset` value must be an integer value equal or greater than 0")
    if size is not None and size <= 0:
        raise InvalidRequestError("`size` value must be an integer value greater than 0")
    if size is not None and size > limit:
        raise InvalidRequestError(f"`size` value must be less than {limit} bytes")
    file = await system.files(caller).open(path)
    try:
        return TextAnswer(output=await text_preview.page(file, offset, limit if size is None else size))
    finally:
        await file.close()


@get("/ops/checksum")
async def get_checksum(system: SystemDependency, caller: CallerDependency, path: FilePath) -> ChecksumAnswer:
    """Return the SHA-256 of a file."""
    return ChecksumAnswer(output=await system.files(caller).checksum(path))


@get("/ops/file")
async def get_file_type(system: SystemDependency, caller: CallerDependency, path: FilePath) -> TextAnswer:
    """Return the kind of a file, as file(1) describes it."""
    return TextAnswer(output=await system.files(caller).file_type(path))


@get("/ops/stat")
async def get_stat(
    system: SystemDependency, caller: CallerDependency, path: FilePath, dereference: Dereference = False
) -> FileStatAnswer:
    """Return the values of stat(2)."""
    return FileStatAnswer(output=await system.files(caller).stat(path, dereference=dereference))


@get("/ops/download", media_type="application/octet-stream", middleware=[shared_answers])
async def get_download(system: SystemDependency, caller: CallerDependency, path: FilePath) -> Stream:
    """Return a small file."""
    content = await text_preview.read_small(system.files(caller), path, system.config.max_ops_file_size)
    return Stream(iter([content]), headers={"Content-Length": str(len(content))}, media_type="application/octet-stream")


@post("/ops/upload", status_code=204, request_max_body_size=None, operation_class=bodies.FORM_WITH_FILE)
async def post_upload(
    request: GatewayRequest,
    system: SystemDependency,
    caller: CallerDependency,
    path: Annotated[str, QueryParameter(name="path", min_length=1, description="The directory")],
) -> None:
    """Write a small file into a directory."""
    limit = system.config.max_ops_file_size
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit + FORM_OVERHEAD:
        raise too_large()
    field = FileField(request.headers.get("content-type", ""), request.stream(), limit)
    name = await field.open()
    await system.files(caller).write(f"{path}/{name}", field.chunks())


@post("/ops/mkdir", status_code=201)
async def post_mkdir(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[MakeDirectoryRequest]
) -> FileEntryAnswer:
    """Create a directory."""
    return FileEntryAnswer(output=await system.files(caller).make_directory(data.path, parents=data.parent))


@post("/ops/symlink", status_code=201)
async def post_symlink(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[SymlinkRequest]
) -> FileEntryAnswer:
    """Create a symbolic link."""
    return FileEntryAnswer(output=await system.files(caller).symlink(data.path, data.link_path))


@put("/ops/chmod")
async def put_chmod(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[ChmodRequest]
) -> FileEntryAnswer:
    """Change permissions. The mode is octal (`755`) or symbolic (`u+x,go-w`)."""
    return FileEntryAnswer(output=await system.files(caller).chmod(data.path, data.mode))


@put("/ops/chown")
async def put_chown(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[ChownRequest]
) -> FileEntryAnswer:
    """Change owner and group."""
    entry = await system.files(caller).chown(data.path, data.owner or "", data.group or "")
    return FileEntryAnswer(output=entry)


@delete("/ops/rm", status_code=204)
async def delete_rm(system: SystemDependency, caller: CallerDependency, path: FilePath) -> None:
    """Remove a file, or a directory with its content."""
    await system.files(caller).remove(path)


@post("/ops/compress", status_code=204)
async def post_compress(system: SystemDependency, caller: CallerDependency, data: JSONBody[CompressRequest]) -> None:
    """Pack a tar archive."""
    await _compress(data)(system.files(caller))


@post("/ops/extract", status_code=204)
async def post_extract(system: SystemDependency, caller: CallerDependency, data: JSONBody[ExtractRequest]) -> None:
    """Unpack a tar archive into a directory."""
    await _extract(data)(system.files(caller))


@post("/transfer/upload", status_code=201)
async def post_transfer_upload(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[UploadRequest]
) -> UploadAnswer:
    """Start the upload of a large file by signed URLs."""
    _require_s3(data.transfer_directives)
    size = _file_size(data.transfer_directives.get("fileSize"))
    return await system.transfers.upload(caller, data.path, size)


@post("/transfer/download", status_code=201, scope="files:read")
async def post_transfer_download(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[DownloadRequest]
) -> UploadAnswer:
    """Offer a large file by a signed URL."""
    _require_s3(data.transfer_directives)
    return await system.transfers.download(caller, data.path)


@post("/transfer/mv", status_code=201)
async def post_transfer_mv(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[MoveRequest]
) -> TransferAnswer:
    """Move or rename, in the background."""
    return await system.transfers.run(
        caller,
        "mv",
        data.target_path,
        lambda files: files.move(data.path, data.target_path),
        source=data.path,
    )


@post("/transfer/cp", status_code=201)
async def post_transfer_cp(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[CopyRequest]
) -> TransferAnswer:
    """Copy, in the background."""
    return await system.transfers.run(
        caller,
        "cp",
        data.target_path,
        lambda files: files.copy(data.path, data.target_path, dereference=data.dereference),
        source=data.path,
    )


@delete("/transfer/rm", status_code=200)
async def delete_transfer_rm(
    system: SystemDependency,
    caller: CallerDependency,
    path: FilePath,
    account: Annotated[str | None, QueryParameter(name="account")] = None,
) -> TransferAnswer:
    """Remove, in the background."""
    return await system.transfers.run(caller, "rm", path, lambda files: files.remove(path))


@post("/transfer/compress", status_code=201)
async def post_transfer_compress(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[CompressRequest]
) -> TransferAnswer:
    """Pack a tar archive, in the background."""
    return await system.transfers.run(caller, "compress", data.target_path, _compress(data), source=data.path)


@post("/transfer/extract", status_code=201)
async def post_transfer_extract(
    system: SystemDependency, caller: CallerDependency, data: JSONBody[ExtractRequest]
) -> TransferAnswer:
    """Unpack a tar archive, in the background."""
    return await system.transfers.run(caller, "extract", data.target_path, _extract(data), source=data.path)


def _compress(data: CompressRequest) -> Callable[[Files], Awaitable[None]]:
    return lambda files: files.compress(
        data.path, data.target_path, data.compression, pattern=data.match_pattern, dereference=data.dereference
    )


def _extract(data: ExtractRequest) -> Callable[[Files], Awaitable[None]]:
    return lambda files: files.extract(data.path, data.target_path, data.compression)


def _require_s3(directives: dict[str, Any]) -> None:
    if directives.get("transferMethod") != "s3":
        raise InvalidRequestError(
            "Requested transfer method is not available.", hint="This gateway has the transferMethod 's3'."
        )


def _file_size(value: Any) -> int:
    """Parse a file size, which FirecREST also accepts as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(
            f"fileSize={value!r} is not a number of bytes.", hint="Say in transferDirectives how large the file is."
        )
    return value


router = Router(
    "/filesystem/{system_name:str}",
    route_handlers=[
        get_ls,
        get_head,
        get_tail,
        get_view,
        get_checksum,
        get_file_type,
        get_stat,
        get_download,
        post_upload,
        post_mkdir,
        post_symlink,
        put_chmod,
        put_chown,
        delete_rm,
        post_compress,
        post_extract,
        post_transfer_upload,
        post_transfer_download,
        post_transfer_mv,
        post_transfer_cp,
        delete_transfer_rm,
        post_transfer_compress,
        post_transfer_extract,
    ],
    middleware=[normalize_query],
    request_max_body_size=bodies.MAX_FIELDS,
    opt={"area": "files"},
    tags=["filesystem"],
)
