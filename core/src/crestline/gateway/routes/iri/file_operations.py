"""The operations on files: their fields and implementations."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from crestline.cooperative import slices
from crestline.gateway.hosts import Files
from crestline.gateway.iri.errors import InvalidFieldError
from crestline.gateway.routes import text_preview
from crestline.wire.codec import encode
from crestline.wire.filesystem import (
    ChmodRequest,
    ChownRequest,
    CompressRequest,
    CopyRequest,
    ExtractRequest,
    FileEntry,
    MakeDirectoryRequest,
    MoveRequest,
    PathRequest,
    SymlinkRequest,
)
from crestline.wire.iri import SIZE_LIMIT

_MOST = 2**62
_Number = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class ListRequest(PathRequest):
    """`ls`"""

    show_hidden: bool = False
    numeric_uid: bool = False
    recursive: bool = False
    dereference: bool = False


class StatRequest(PathRequest):
    """`stat`"""

    dereference: bool = False


class HeadRequest(PathRequest):
    """`head`"""

    bytes: _Number | None = None
    lines: _Number | None = None
    skip_trailing: bool = False


class TailRequest(PathRequest):
    """`tail`"""

    bytes: _Count | None = None
    lines: _Count | None = None
    skip_heading: bool = False


class ViewRequest(PathRequest):
    """`view` of v1"""

    size: Annotated[int, msgspec.Meta(ge=1, le=SIZE_LIMIT)] = SIZE_LIMIT
    offset: Annotated[int, msgspec.Meta(ge=0, le=_MOST)] = 0


class NewerViewRequest(ViewRequest):
    """`view` of v2, which has no maximum size."""

    size: _Count = SIZE_LIMIT


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        method: method in v1; v2 uses POST for all.
        run: carries it out with a limit of bytes to read, and returns the result.
        is_slow: whether its duration depends on the number of bytes or files.
    """

    name: str
    method: str
    fields: type[PathRequest]
    run: Callable[[Files, Any, int], Awaitable[Any]]
    writes: bool = True
    status: int = 200
    is_slow: bool = False

    def fields_of(self, version: int) -> type[PathRequest]:
        return NewerViewRequest if self.fields is ViewRequest and version >= 2 else self.fields

    def check(self, fields: Any) -> None:
        """Refuse an invalid combination of fields.

        Raises:
            InvalidFieldError: the fields are refused.
        """
        if isinstance(fields, HeadRequest | TailRequest) and (fields.bytes is None) == (fields.lines is None):
            raise InvalidFieldError("bytes", "Exactly one of bytes and lines is required")

    async def result(self, files: Files, fields: Any, limit: int) -> bytes:
        """Carry out the operation and return the task's result as JSON."""
        found = await self.run(files, fields, limit)
        return encode({"output": _plain(found) if isinstance(found, msgspec.Struct) else found})


async def _list(files: Files, fields: ListRequest, limit: int) -> Any:
    entries = await files.list(
        fields.path,
        hidden=fields.show_hidden,
        recursive=fields.recursive,
        dereference=fields.dereference,
        numeric=fields.numeric_uid,
    )
    parts = [encode([_plain(each) for each in some])[1:-1] async for some in slices(entries)]
    return msgspec.Raw(b"[%s]" % b",".join(parts))


async def _checksum(files: Files, fields: PathRequest, limit: int) -> Any:
    return {"algorithm": "SHA-256", "checksum": (await files.checksum(fields.path)).checksum}


async def _head(files: Files, fields: HeadRequest, limit: int) -> Any:
    return await text_preview.read_head(files, fields.path, fields.bytes, fields.lines, fields.skip_trailing, limit)


async def _tail(files: Files, fields: TailRequest, limit: int) -> Any:
    # The API skips this number of lines, while tail(1) starts with the line of that number.
    lines, count = fields.lines, fields.bytes
    if fields.skip_heading:
        lines, count = (None if each is None else each + 1 for each in (lines, count))
    return await text_preview.read_tail(files, fields.path, count, lines, fields.skip_heading, limit)


async def _view(files: Files, fields: ViewRequest, limit: int) -> Any:
    size = min(fields.size, limit)
    file = await files.open(fields.path)
    try:
        text = await text_preview.page(file, fields.offset, size)
    finally:
        await file.close()
    return {
        "content": text,
        "content_type": "bytes",
        "start_position": fields.offset,
        "end_position": fields.offset + size,
    }


async def _download(files: Files, fields: PathRequest, limit: int) -> Any:
    return base64.b64encode(await text_preview.read_small(files, fields.path, limit)).decode()


async def _remove(files: Files, fields: PathRequest, limit: int) -> Any:
    await files.remove(fields.path)
    return f"{fields.path} was removed."


async def _copy(files: Files, fields: CopyRequest, limit: int) -> Any:
    await files.copy(fields.path, fields.target_path, dereference=fields.dereference)
    return await files.entry(fields.target_path)


async def _move(files: Files, fields: MoveRequest, limit: int) -> Any:
    await files.move(fields.path, fields.target_path)
    return await files.entry(fields.target_path)


async def _compress(files: Files, fields: CompressRequest, limit: int) -> Any:
    await files.compress(
        fields.path,
        fields.target_path,
        fields.compression,
        pattern=fields.match_pattern,
        dereference=fields.dereference,
    )
    return await files.entry(fields.target_path)


async def _extract(files: Files, fields: ExtractRequest, limit: int) -> Any:
    await files.extract(fields.path, fields.target_path, fields.compression)
    return await files.entry(fields.target_path)


def _plain(message: FileEntry | msgspec.Struct) -> dict[str, Any]:
    """Return a message of FirecREST with snake_case names, as in this API."""
    return {name: getattr(message, name) for name in message.__struct_fields__}


OPERATIONS = [
    Operation("ls", "GET", ListRequest, _list, writes=False),
    Operation(
        "stat", "GET", StatRequest, lambda files, f, _: files.stat(f.path, dereference=f.dereference), writes=False
    ),
    Operation("file", "GET", PathRequest, lambda files, f, _: files.file_type(f.path), writes=False),
    Operation("head", "GET", HeadRequest, _head, writes=False),
    Operation("tail", "GET", TailRequest, _tail, writes=False),
    Operation("view", "GET", ViewRequest, _view, writes=False),
    Operation("checksum", "GET", PathRequest, _checksum, writes=False, is_slow=True),
    Operation("download", "GET", PathRequest, _download, writes=False),
    Operation("rm", "DELETE", PathRequest, _remove, is_slow=True),
    Operation("chmod", "PUT", ChmodRequest, lambda files, f, _: files.chmod(f.path, f.mode)),
    Operation("chown", "PUT", ChownRequest, lambda files, f, _: files.chown(f.path, f.owner or "", f.group or "")),
    Operation(
        "mkdir",
        "POST",
        MakeDirectoryRequest,
        lambda files, f, _: files.make_directory(f.path, parents=f.parent),
        status=201,
    ),
    Operation("symlink", "POST", SymlinkRequest, lambda files, f, _: files.symlink(f.path, f.link_path), status=201),
    Operation("cp", "POST", CopyRequest, _copy, status=201, is_slow=True),
    Operation("mv", "POST", MoveRequest, _move, status=201, is_slow=True),
    Operation("compress", "POST", CompressRequest, _compress, status=201, is_slow=True),
    Operation("extract", "POST", ExtractRequest, _extract, status=201, is_slow=True),
]
"""All operations except `upload`, whose content is read as it arrives."""
