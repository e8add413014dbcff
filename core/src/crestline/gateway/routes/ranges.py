"""A file as an HTTP response, conditional and by range (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Annotated, Any

from litestar import MediaType, Response
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import Stream

from crestline.gateway.hosts import OpenFile
from crestline.gateway.routes.entity_tags import matches
from crestline.wire.errors import ErrorBody

RangeHeader = Annotated[str | None, HeaderParameter(name="Range")]
IfRangeHeader = Annotated[str | None, HeaderParameter(name="If-Range")]
IfNoneMatchHeader = Annotated[str | None, HeaderParameter(name="If-None-Match")]

PARTIAL_ANSWERS = {
    206: ResponseSpec(bytes, description="The range", media_type="application/octet-stream", generate_examples=False),
    304: ResponseSpec(None, description="Nothing changed", generate_examples=False),
}
"""Responses of `file_answer` besides 200 and errors."""

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class UnsatisfiableRangeError(Exception):
    """The range is beyond the end of the file."""


async def file_answer(
    file: OpenFile,
    *,
    body: bool = True,
    wanted: str | None = None,
    if_range: str | None = None,
    if_none_match: str | None = None,
) -> Response[Any]:
    """Return the response to GET, or to HEAD without `body`, and close the file.

    Args:
        wanted: the header `Range`; the other arguments are named after their headers.
    """
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.etag}"',
        "Last-Modified": formatdate(int(file.modified), usegmt=True),
    }
    if matches(if_none_match, headers["ETag"]):
        await file.close()
        return Response(None, status_code=304, headers=headers, media_type=MediaType.JSON)
    status, start, end = 200, 0, file.size
    if wanted and (if_range is None or if_range.strip() in (headers["ETag"], headers["Last-Modified"])):
        try:
            part = _parse(wanted, file.size)
        except UnsatisfiableRangeError:
            await file.close()
            answer = ErrorBody(message=f"The file has {file.size} bytes: nothing is at {wanted}.")
            headers["Content-Range"] = f"bytes */{file.size}"
            return Response(answer, status_code=416, headers=headers, media_type=MediaType.JSON)
        if part is not None:
            status = 206
            start, end = part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    if not body:
        await file.close()
    content = _content(file, start, end - start) if body else _nothing()
    return Stream(content, status_code=status, headers=headers, media_type="application/octet-stream")


def _parse(wanted: str, size: int) -> tuple[int, int] | None:
    """Return start and end of a single range; None for a header that a server can ignore."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise UnsatisfiableRangeError
    return start, end


async def _content(file: OpenFile, offset: int, length: int) -> AsyncIterator[bytes]:
    try:
        async for chunk in file.chunks(offset, length):
            yield chunk
    finally:
        await file.close()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
