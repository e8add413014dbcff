"""The file in a `multipart/form-data` body, as it arrives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from crestline.model import InvalidRequestError, TooLargeError

# Escapes of browsers, httpx, curl and others for characters that a quoted string cannot contain.
_ESCAPE = re.compile(r'\\([\\"])|%(22|0[0-9A-Fa-f]|1[0-9A-Fa-f])')
FORM_OVERHEAD = 64 * 1024
"""Bytes of boundaries, headers and other fields of a form around its file."""
_HINT = "Send the file as the form field 'file', with its name as filename."


class FileField:
    """The field `file` of a form. Await `open()` for its name, then iterate over its content."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes], limit: int) -> None:
        """`limit`: maximum size in bytes of the file; the rest of the form has `FORM_OVERHEAD`."""
        kind, options = parse_options_header(content_type)
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise InvalidRequestError("The body is not multipart/form-data.", hint=_HINT)
        self._parser = PushMultipartParser(options["boundary"], max_header_size=16384, max_segment_count=16)
        self._body = body
        self._left = limit
        self._form_left = limit + FORM_OVERHEAD
        self._events = self._parse()

    async def open(self, *, is_named: bool = True) -> str:
        """Return the name of the file; empty if not `is_named`, because the request has its path elsewhere.

        Raises:
            InvalidRequestError: the field is missing, it has no usable name, or the body is malformed.
        """
        async for event in self._events:
            if isinstance(event, MultipartSegment) and event.name == "file":
                return _file_name(event) if is_named else ""
        raise InvalidRequestError("The form has no field 'file'.", hint=_HINT)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content of the file.

        Raises:
            TooLargeError: the file is larger than the limit.
        """
        async for event in self._events:
            if event is None:
                return
            if isinstance(event, bytes | bytearray):
                self._left -= len(event)
                if self._left < 0:
                    raise too_large()
                yield bytes(event)

    async def _parse(self) -> AsyncIterator[MultipartSegment | bytes | None]:
        try:
            async for chunk in self._body:
                self._form_left -= len(chunk)
                if self._form_left < 0:
                    raise too_large()
                if chunk:
                    for event in self._parser.parse(chunk):
                        yield event
            self._parser.close()
        except MultipartError as error:
            raise InvalidRequestError(f"The form is broken: {error}.", hint=_HINT) from error


def too_large() -> TooLargeError:
    """Return the error for a file that is too large, with FirecREST's text."""
    return TooLargeError("File to upload is too large.", hint="Use the transfer endpoints, or PUT ops/content.")


def _file_name(segment: MultipartSegment) -> str:
    header = next((value for name, value in segment.headerlist if name.lower() == "content-disposition"), "")
    name = parse_options_header(header, unquote=_unquote)[1].get("filename")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InvalidRequestError(f"{name!r} is not a name for a file.", hint=_HINT)
    return str(name)


def _unquote(value: str, filename: bool = False) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return _ESCAPE.sub(lambda match: match.group(1) or chr(int(match.group(2), 16)), value)
