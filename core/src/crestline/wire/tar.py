"""Tar archives from a peer that may be hostile, read member by member within limits.

Limits are checked before memory is used: a few KiB of gzip can announce a name of 512 MiB, and a few KiB of xz can
become gigabytes.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, Self

import msgspec

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile  # Debian 12's Python 3.11.2 lacks extraction filters

Packing = Literal["detect", "none", "gzip", "bzip2", "xz"]
"""Compression of a stream; `detect` recognises plain and gzip."""

_BLOCK = 1024 * 1024
_HEADER = 64 * 1024
"""Maximum bytes of names and extended headers of one member. A path has at most 4 KiB."""
_GLOBAL_HEADERS = 64
_DIGITS = re.compile(rb"[0-9]{256}")  # no valid name has as many, and tarfile's search is quadratic in their number
ALLOWANCE = 64 * 1024 * 1024
"""Bytes that are allowed from any input, and input bytes that may yield no output."""
_LEAST_YIELD = 2
"""Minimum unpacked bytes for each byte of an archive. Incompressible data grows by far less."""
_XZ_MEMORY = 128 * 1024 * 1024
"""Maximum memory in bytes; `xz -9` needs 65 MiB."""
_GZIP = b"\x1f\x8b"


class TarLimitError(Exception):
    """The archive exceeds a limit, which the message names."""


class TarDamagedError(Exception):
    """The archive is truncated, or is not a tar archive."""


class ArchiveLimits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Limits of the unpacked content of an archive; 0: unlimited."""

    members: int = 1_000_000
    """Maximum number of files, directories and links."""
    depth: int = 512
    """Maximum number of directories in the path of a member."""
    ratio: int = 200
    """Maximum unpacked bytes for each byte of the archive, after the first 64 MiB."""
    bytes: int = 1024**4
    """Maximum bytes of all files together."""


class Source(Protocol):
    """The source of the bytes of an archive."""

    def read(self, size: int, /) -> bytes: ...


class TarReader:
    """The members of an archive in order. Iterate over it, and read each one's content before the next.

    Raises:
        TarLimitError: the archive exceeds a limit.
        TarDamagedError: the archive is truncated, or is not a tar archive. Errors of the source are passed on.
    """

    def __init__(self, source: Source, packing: Packing, limits: ArchiveLimits) -> None:
        self._limits = limits
        with _reading():
            self._stream = _Forward(source, packing, limits.ratio)
            self._tar = tarfile.TarFile(fileobj=self._stream, tarinfo=_Member)  # type: ignore[arg-type]
        self._entries = 0
        self._bytes = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while True:
            with _reading():
                self._stream.begin_header()
                member = self._tar.next()
                self._stream.end_header()
            if member is None:
                return
            if member.size < 0:
                raise TarDamagedError(f"{member.name} has {member.size} bytes")
            self._tar.members.clear()  # type: ignore[attr-defined]  # else a long archive fills the memory
            if len(self._tar.pax_headers) > _GLOBAL_HEADERS:
                raise TarLimitError(f"more than {_GLOBAL_HEADERS} global headers")
            if 0 < self._limits.depth < member.name.count("/"):
                raise TarLimitError(f"a path of more than {self._limits.depth} directories")
            self.count(1)
            yield member

    def count(self, entries: int) -> None:
        """Count entries that are created for a member in addition to itself: its parent directories."""
        self._entries += entries
        if 0 < self._limits.members < self._entries:
            raise TarLimitError(f"more than {self._limits.members} members")

    def content(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield the bytes of a regular file."""
        self._bytes += member.size
        if 0 < self._limits.bytes < self._bytes:
            raise TarLimitError(f"more than {self._limits.bytes} bytes")
        sparse = member.issparse()
        file: Source | None = self._tar.extractfile(member) if sparse else self._stream
        left = member.size
        padding = 0 if sparse else -left % tarfile.BLOCKSIZE  # read together with the content
        while left:
            with _reading():
                block = file.read(min(left + padding, _BLOCK)) if file is not None else b""
                if sparse:
                    self._stream.check_ratio(len(block))
            if not block:
                raise TarDamagedError("unexpected end of data")
            if len(block) > left:
                block = block[:left]
            yield block
            left -= len(block)


class _Member(tarfile.TarInfo):
    """Reads the headers of ordinary files, the bulk of long archives, without fields that no caller needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE and not buf[345]:
            checksum, mode, size, modified = buf[148:156], buf[100:108], buf[124:136], buf[136:148]
            try:
                if int(checksum.rstrip(b" \0"), 8) == sum(buf) - sum(checksum) + 8 * ord(" "):
                    member = cls(buf[:100].partition(b"\0")[0].decode(encoding, errors))
                    member.mode, member.size = int(mode.rstrip(b" \0"), 8), int(size.rstrip(b" \0"), 8)
                    member.mtime = int(modified.rstrip(b" \0"), 8)
                    return member
            except ValueError:
                pass  # numbers in another format
        return super().frombuf(buf, encoding, errors)


class _reading:  # noqa: N801 - a context manager that is entered for each read, in a tenth of a generator's time
    """Translates all errors of a damaged archive into one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.errno is not None:  # an error of the source
            return
        if isinstance(error, OSError | tarfile.TarError | EOFError | zlib.error | lzma.LZMAError | ValueError):
            raise TarDamagedError(str(error)) from error


class _Counted:
    """The archive as it arrives, with the number of received bytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = b""
        self.came = 0
        self.made = 0
        """Bytes that were unpacked from it."""

    def peek(self, size: int) -> bytes:
        while len(self._start) < size and (more := self._source.read(size - len(self._start))):
            self._start += more
        return self._start

    def read(self, size: int = -1) -> bytes:
        if self._start:
            block, self._start = self._start[:size], self._start[size:]
        else:
            block = self._source.read(size)
        self.came += len(block)
        if self.came > ALLOWANCE + _LEAST_YIELD * self.made:
            raise TarLimitError(f"more than {ALLOWANCE} bytes of which nothing is unpacked")
        return block


class _Forward:
    """The tar archive as a file that tarfile can read forward."""

    def __init__(self, source: Source, packing: Packing, ratio: int) -> None:
        self._packed = _Counted(source)
        self._plain = _unpacked(self._packed, packing)
        self._ratio = ratio
        self._position = 0
        self._header_remaining: int | None = _HEADER  # TarFile reads the first header when it is created

    def begin_header(self) -> None:
        if self._position:
            self._header_remaining = _HEADER

    def end_header(self) -> None:
        self._header_remaining = None

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        while self._position < position:
            if not self._pull(min(_BLOCK, position - self._position)):
                break
        return self._position

    def read(self, size: int) -> bytes:
        if self._header_remaining is not None:
            self._header_remaining -= size
            if self._header_remaining < 0:
                raise TarLimitError(f"a header of more than {_HEADER // 1024} KiB")
        block = self._pull(size)
        if self._header_remaining is not None and size > tarfile.BLOCKSIZE and _DIGITS.search(block):
            raise TarLimitError("a header with a number of more than 255 digits")
        return block

    def check_ratio(self, more: int = 0) -> None:
        self._packed.made += more
        if self._ratio and self._packed.made > ALLOWANCE + self._ratio * self._packed.came:
            raise TarLimitError(f"more than {self._ratio} bytes for each byte of the archive")

    def _pull(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        pieces: list[bytes] = []
        left = size
        while left and (piece := self._plain.read(min(left, _BLOCK))):
            pieces.append(piece)
            left -= len(piece)
            self.check_ratio(len(piece))
        self._position += size - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Xz:
    """A decompressor with a memory limit, which lzma.LZMAFile lacks."""

    def __init__(self, packed: _Counted) -> None:
        self._packed = packed
        self._unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        while True:
            if self._unpacker.eof:
                rest = self._unpacker.unused_data.lstrip(b"\0") or self._packed.read(_HEADER).lstrip(b"\0")
                if not rest:
                    return b""
                self._unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            elif self._unpacker.needs_input:
                rest = self._packed.read(_HEADER)
                if not rest:
                    raise EOFError("the archive is cut off")
            else:
                rest = b""
            if block := self._unpacker.decompress(rest, size):
                return block


def _unpacked(packed: _Counted, packing: Packing) -> Source:
    if packing == "detect":
        packing = "gzip" if packed.peek(len(_GZIP)) == _GZIP else "none"
    match packing:
        case "gzip":
            return gzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[call-overload, no-any-return]
        case "bzip2":
            return bz2.BZ2File(packed)  # type: ignore[call-overload, no-any-return]
        case "xz":
            return _Xz(packed)
    return packed
