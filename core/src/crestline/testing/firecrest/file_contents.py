"""The endpoints of `ops` for file contents: head, tail, view, checksum, file, download, and upload."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from crestline.testing.firecrest.endpoint import Call
from crestline.testing.firecrest.paths import check_quotes, checked
from crestline.testing.firecrest.refusals import Refusal, buffer_exceeded, command_timeout, invalid, remote_failure
from crestline.testing.firecrest.remote_command import failed, run


def head(call: Call) -> Response:
    """Return the first bytes or lines, or with `skipTrailing` all but the last ones. Echoes the positions."""
    path, skip = checked(call), call.flag("skipTrailing")
    count, unit = _asked_part(call)
    output = run(call, "head", *_part_option(count, unit, "-" if skip else ""), "--", path)
    end = 10 if count is None else -count if skip else count
    return _part(output, count, unit, 0, end)


def tail(call: Call) -> Response:
    """Return the last bytes or lines, or with `skipHeading` all from the given one on, counted from 1."""
    path, skip = checked(call), call.flag("skipHeading")
    count, unit = _asked_part(call)
    output = run(call, "tail", *_part_option(count, unit, "+" if skip else ""), "--", path)
    start = 10 if count is None else count if skip else -count
    return _part(output, count, unit, start, -1)


def view(call: Call) -> Response:
    """Return `size` characters from `offset`, selected after decoding.

    The server reads two blocks of `size` bytes from the block of the offset on, and both must fit in its buffer.
    """
    limit = call.facility.settings.max_ops_file_size
    path, size, offset = checked(call), call.number("size"), call.number("offset") or 0
    size = limit if size is None else size
    if offset < 0:
        raise Refusal(400, "`offset` value must be an integer value equal or greater than 0")
    if size <= 0:
        raise Refusal(400, "`size` value must be an integer value greater than 0")
    if size > limit:
        raise Refusal(400, f"`size` value must be less than {limit} bytes")
    try:
        with open(path, "rb") as file:
            file.seek(offset // size * size)
            blocks = file.read(2 * size)
    except OSError as error:
        raise failed("dd", path, error, "failed to open") from None
    if len(blocks) >= limit:
        raise buffer_exceeded()
    text = blocks.decode("utf-8", errors="replace")
    begin = offset % size
    return JSONResponse({"output": text[begin : begin + size]})


def checksum(call: Call) -> Response:
    """Return the SHA-256 of the file."""
    path = checked(call)
    limit = call.facility.faults.checksum_408_above
    if limit is not None and os.path.exists(path) and os.path.getsize(path) > limit:
        raise remote_failure(124, "")
    output = run(call, "sha256sum", "--", path).decode(errors="replace")
    if len(output.split()) > 2 and call.facility.faults.space_breaks_checksum:
        raise Refusal(500, f"Invalid output: {output} ")
    digest = output.split()[0]
    if not call.facility.faults.checksum_is_marked:
        digest = digest.removeprefix("\\")
    return JSONResponse({"output": {"algorithm": "SHA256", "checksum": digest}})


def file_type(call: Call) -> Response:
    """Return the output of `file`, or a guess if that program is not installed."""
    path = checked(call)
    try:
        text = run(call, "file", "-b", "--", path).decode(errors="replace").strip()
    except Refusal as refusal:
        if "file: No such file" not in refusal.message or not os.path.exists(path):
            raise
        text = "directory" if os.path.isdir(path) else "ASCII text"
    return JSONResponse({"output": text})


def download(call: Call) -> Response:
    """Return the content of a file whose base64 form fits in the server's buffer: below 3.75 MiB by default."""
    path = checked(call)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise remote_failure(1, f"base64: {path}: {error.strerror}") from None
    if 4 * -(-len(content) // 3) >= call.facility.settings.max_ops_file_size:
        if call.facility.faults.download_too_large == 413:
            raise buffer_exceeded()
        raise Refusal(call.facility.faults.download_too_large, "('Channel not open for sending',)")
    return Response(content, media_type="application/octet-stream")


def upload(call: Call) -> Response:
    """Write a file into the directory `path`, replacing an existing one: 204."""
    directory = checked(call)
    if call.upload is None:
        raise invalid("body", "file", "Field required")
    name, content = call.upload
    if len(content) > call.facility.settings.max_ops_file_size:
        raise Refusal(413, "File to upload is too large.")
    check_quotes(call, name)
    path = Path(f"{directory}/{name}")
    try:
        path.write_bytes(content)
    except OSError as error:
        if call.facility.faults.failed_upload_hides_why:
            raise Refusal(500, "('Channel not open for sending',)") from None
        raise remote_failure(1, f"bash: line 1: {path}: {error.strerror}") from None
    if not content and call.facility.faults.empty_upload_hangs:
        time.sleep(call.facility.settings.command_timeout)
        raise command_timeout()
    return Response(status_code=204)


def _asked_part(call: Call) -> tuple[int | None, str]:
    in_bytes, in_lines = call.number("bytes"), call.number("lines")
    if in_bytes and in_lines:
        raise Refusal(400, "Only one of `bytes` or `lines` can be specified.")
    if in_lines is not None:
        return in_lines, "lines"
    return (in_bytes, "bytes") if in_bytes is not None else (None, "lines")


def _part_option(count: int | None, unit: str, sign: str) -> list[str]:
    return [f"--{unit}={sign}{count}"] if count else []  # 0 means the command's default of ten lines


def _part(output: bytes, count: int | None, unit: str, start: int, end: int) -> Response:
    shown: dict[str, Any] = {
        "content": output.decode("utf-8", errors="replace"),
        "contentType": unit if count else "lines",
        "startPosition": start,
        "endPosition": end,
    }
    return JSONResponse({"output": shown})
