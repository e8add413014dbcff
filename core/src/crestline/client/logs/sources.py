"""How a growing text file is read: by byte ranges from a Crestline gateway, by line number from plain FirecREST."""

from __future__ import annotations

import abc
import codecs
from collections.abc import AsyncIterator

from crestline.client.backends.base import Backend
from crestline.client.streams import closing
from crestline.model import InvalidRequestError, TooLargeError


class Source(abc.ABC):
    """One file, read forwards. After an error, call `read` again: it continues where it stopped."""

    kind: str
    """first word of a `position`"""

    def __init__(self, backend: Backend, path: str) -> None:
        self._backend = backend
        self._path = path
        self._inode: int | None = None

    @property
    @abc.abstractmethod
    def position(self) -> str:
        """Where the text that was handed out ends."""

    def seek(self, position: str) -> None:
        """Resume from an earlier `position`.

        Raises:
            InvalidRequestError: invalid position, or one of another kind of source.
        """
        kind, *numbers = position.split(":")
        if kind != self.kind or not numbers or not all(number.isascii() and number.isdigit() for number in numbers):
            raise InvalidRequestError(
                f"{position!r} is not a position in a log of {self._backend.gateway_url}.",
                hint="Follow the file from its beginning.",
            )
        self._seek(*(int(number) for number in numbers[:2]))

    @abc.abstractmethod
    def _seek(self, first: int, second: int = 0) -> None: ...

    @abc.abstractmethod
    def _known_size(self) -> int:
        """The file is not what it was if it has fewer bytes than this."""

    @abc.abstractmethod
    def read(self) -> AsyncIterator[str]:
        """Yield the text that was added since the last call."""

    @abc.abstractmethod
    def rest(self) -> str:
        """What `read` held back as incomplete; called once, when nothing more will come."""

    async def _size(self) -> int:
        """The file's size; another or a shortened file is taken up from its beginning."""
        status = await self._backend.files.stat(self._path)
        inode, size = status.get("ino"), status["size"]
        if size < self._known_size() or (self._inode and inode and inode != self._inode):
            self._seek(0)
        self._inode = inode
        return size


class ByteSource(Source):
    """By byte ranges; characters that lie across the end of a read wait for their other half."""

    kind = "bytes"

    def __init__(self, backend: Backend, path: str) -> None:
        super().__init__(backend, path)
        self._seek(0)

    def _seek(self, first: int, second: int = 0) -> None:
        self._offset = first
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def _known_size(self) -> int:
        return self._offset

    @property
    def position(self) -> str:
        return f"bytes:{self._offset - len(self._decoder.getstate()[0])}"

    async def read(self) -> AsyncIterator[str]:
        if await self._size() <= self._offset:
            return
        async with closing(self._backend.files.read(self._path, self._offset)) as chunks:
            async for chunk in chunks:
                self._offset += len(chunk)
                if text := self._decoder.decode(chunk):
                    yield text

    def rest(self) -> str:
        return self._decoder.decode(b"", final=True)


class LineSource(Source):
    """By line number; a last line without its newline is held back.

    More than one answer carries is read in windows of bytes. There alone bytes that are not UTF-8 can shift the joint
    of two windows by a few characters, because FirecREST cuts decoded characters.
    """

    kind = "lines"

    def __init__(self, backend: Backend, path: str) -> None:
        super().__init__(backend, path)
        self._window = backend.max_direct_download // 2
        self._seek(0)

    def _seek(self, first: int, second: int = 0) -> None:
        self._lines = first  # whole lines handed out
        self._characters = second  # of the line after them
        self._held = ""
        self._seen = -1  # the file's size when it was read last
        self._bytes: int | None = None if first else 0  # handed out
        self._mark = (0, 0)  # a window that ends a line handed out, and the lines that end before it

    def _known_size(self) -> int:
        return self._seen

    @property
    def position(self) -> str:
        return f"lines:{self._lines}" + (f":{self._characters}" if self._characters else "")

    async def read(self) -> AsyncIterator[str]:
        size = await self._size()
        if size == self._seen:
            return
        self._held = ""
        text = await self._tail(size)
        if text is None:
            async for whole in self._read_windows():
                yield whole
        elif whole := self._feed(text):
            self._seen = size
            yield whole
        self._seen = size

    async def _tail(self, size: int) -> str | None:
        """What follows the lines handed out; None if it does not fit into one answer."""
        if self._bytes is not None and size - self._bytes > self._backend.max_direct_download:
            return None
        try:
            return await self._backend.files.tail_lines(self._path, self._lines + 1)
        except TooLargeError:
            return None

    def rest(self) -> str:
        text = self._held[self._characters :]
        self._characters = len(self._held)
        return text

    def _feed(self, text: str) -> str:
        """Add `text` to what is held back; returns the lines that are whole now."""
        text = self._held + text
        end = text.rfind("\n") + 1
        whole, self._held = text[self._characters : end], text[end:]
        if end:
            self._lines += text.count("\n")
            self._characters = 0
            if self._bytes is not None:
                self._bytes += len(text[:end].encode())
        return whole

    async def _read_windows(self) -> AsyncIterator[str]:
        number, before = self._mark
        skip = self._lines - before
        straddling = 0
        while text := await self._backend.files.view(self._path, number * self._window, self._window):
            text = text[straddling:]
            text, straddling, is_last = _within(text, self._window - straddling)
            ends = text.count("\n")
            if ends:
                self._mark = (number, before)
            number, before = number + 1, before + ends
            if skip:
                passed = min(skip, ends)
                text = text.split("\n", passed)[-1] if passed == skip else ""
                skip -= passed
            if whole := self._feed(text):
                yield whole
            if is_last:
                return


def _within(text: str, size: int) -> tuple[str, int, bool]:
    """The characters of `text` that begin within its first `size` bytes, how many bytes the last of them has beyond,
    and whether there are fewer bytes than that."""
    # The gateway shows a byte that is not UTF-8 as U+FFFD, so this character stands for one byte here.
    data = text.replace("\ufffd", "?").encode()
    beyond = 0
    while data[size + beyond : size + beyond + 1] and data[size + beyond] & 0xC0 == 0x80:
        beyond += 1
    return text[: len(data[: size + beyond].decode())], beyond, len(data) < size
