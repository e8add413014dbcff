"""Parts of text files, by lines or bytes, as in head(1), tail(1) and dd(1). No file is read as a whole."""

from __future__ import annotations

from crestline.gateway.hosts import Files, OpenFile
from crestline.model import InvalidRequestError, TooLargeError
from crestline.wire.filesystem import FileContent

_DEFAULT_LINES = 10
_BLOCK = 1024 * 1024
_LONGEST_CHARACTER = 4  # bytes of UTF-8


async def read_head(
    files: Files, path: str, byte_count: int | None, lines: int | None, skip_trailing: bool, limit: int
) -> FileContent:
    """Return the beginning of a file, by bytes or lines."""
    count, by_lines = _count(byte_count, lines)
    # As in head(1), a negative number excludes that number at the end.
    skip = (skip_trailing and (byte_count, lines) != (None, None)) or count < 0
    file = await files.open(path)
    try:
        content = await head(file, count=abs(count), lines=by_lines, skip=skip, limit=limit)
    finally:
        await file.close()
    return _excerpt(content, by_lines, 0, -abs(count) if skip else count)


async def read_tail(
    files: Files, path: str, byte_count: int | None, lines: int | None, skip_heading: bool, limit: int
) -> FileContent:
    """Return the end of a file, by bytes or lines."""
    count, by_lines = _count(byte_count, lines)
    skip = skip_heading and (byte_count, lines) != (None, None)
    file = await files.open(path)
    try:
        content = await tail(file, count=abs(count), lines=by_lines, skip=skip, limit=limit)
    finally:
        await file.close()
    return _excerpt(content, by_lines, abs(count) if skip else -abs(count), -1)


async def read_small(files: Files, path: str, limit: int) -> bytes:
    """Return a whole file.

    Raises:
        TooLargeError: the file has more than `limit` bytes.
    """
    file = await files.open(path)
    try:
        if file.size > limit:
            raise TooLargeError(
                "File to download is too large.",
                hint=f"Up to {limit} bytes; use the transfer endpoints, or GET ops/content.",
            )
        return b"".join([chunk async for chunk in file.chunks(0, limit)])
    finally:
        await file.close()


async def head(file: OpenFile, *, count: int, lines: bool, skip: bool, limit: int) -> str:
    """Return the first `count` lines or bytes; with `skip`, all except the last `count`."""
    if lines and skip:
        end = await _last_lines(file, count)
    elif lines:
        end = await _first_lines(file, count, limit)
    else:
        end = max(0, file.size - count) if skip else min(count, file.size)
    return await _text(file, 0, end, limit)


async def tail(file: OpenFile, *, count: int, lines: bool, skip: bool, limit: int) -> str:
    """Return the last `count` lines or bytes; with `skip`, all from number `count` on, where the first is 1."""
    if lines:
        start = await (_first_lines(file, max(0, count - 1)) if skip else _last_lines(file, count, limit))
    else:
        start = min(max(0, count - 1), file.size) if skip else max(0, file.size - count)
    return await _text(file, start, file.size, limit)


async def page(file: OpenFile, offset: int, size: int) -> str:
    """Return the UTF-8 text of `size` bytes from `offset` on.

    A character belongs to the page with its first byte, so consecutive pages make up the text, and no character is cut.
    """
    before = min(offset, _LONGEST_CHARACTER - 1)
    data = await _read(file, offset - before, before + size + _LONGEST_CHARACTER - 1)
    return data[_boundary(data, before) : _boundary(data, before + size)].decode("utf-8", "replace")


def _boundary(data: bytes, index: int) -> int:
    """Return `index`, or the end of the character that contains it."""
    for start in range(index - 1, max(-1, index - _LONGEST_CHARACTER), -1):
        if start >= len(data) or data[start] & 0xC0 == 0x80:
            continue
        first = data[start]
        length = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1
        try:
            data[start : start + length].decode()
        except UnicodeDecodeError:
            return index
        return max(index, start + length)
    return index


async def _first_lines(file: OpenFile, count: int, limit: int | None = None) -> int:
    """Return the end of the first `count` lines."""
    position = 0
    while count > 0 and position < file.size:
        if limit is not None and position > limit:
            raise _too_large()
        block = await _read(file, position, min(_BLOCK, file.size - position))
        if not block:
            break
        found = block.count(b"\n")
        if found < count:
            count -= found
            position += len(block)
            continue
        return position + _line_break(block, count) + 1
    return position


async def _last_lines(file: OpenFile, count: int, limit: int | None = None) -> int:
    """Return the start of the last `count` lines. A last line without a line break counts."""
    if count == 0:
        return file.size
    end = file.size
    if end and await _read(file, end - 1, 1) == b"\n":
        end -= 1
    while end > 0:
        if limit is not None and file.size - end > limit:
            raise _too_large()
        start = max(0, end - _BLOCK)
        block = await _read(file, start, end - start)
        found = block.count(b"\n")
        if found >= count:
            return start + _line_break(block, found - count + 1) + 1
        count -= found
        end = start
    return 0


def _line_break(block: bytes, number: int) -> int:
    """Return the index of a line break, where the first is 1, by bisection: a loop over millions of them takes too
    long."""
    low, high = 0, len(block)
    while high - low > 1:
        middle = (low + high) // 2
        found = block.count(b"\n", low, middle)
        if found >= number:
            high = middle
        else:
            number -= found
            low = middle
    return low


async def _text(file: OpenFile, start: int, end: int, limit: int) -> str:
    if end - start > limit:
        raise _too_large()
    return (await _read(file, start, end - start)).decode("utf-8", "replace")


async def _read(file: OpenFile, offset: int, length: int) -> bytes:
    return b"".join([chunk async for chunk in file.chunks(offset, length)])


def _too_large() -> TooLargeError:
    return TooLargeError("Command output exceeded buffer limit.", hint="Ask for less, or use ops/content.")


def _count(byte_count: int | None, lines: int | None) -> tuple[int, bool]:
    """Return the number, and whether it counts lines."""
    if byte_count is not None and lines is not None:
        raise InvalidRequestError("Only one of `bytes` or `lines` can be specified.")
    if byte_count is not None:
        return byte_count, False
    return _DEFAULT_LINES if lines is None else lines, True


def _excerpt(content: str, by_lines: bool, start: int, end: int) -> FileContent:
    return FileContent(
        content=content, content_type="lines" if by_lines else "bytes", start_position=start, end_position=end
    )
