"""Reads and writes with several SFTP requests in flight, to hide the latency to the machine.

asyncssh can do this as well, but leaves its requests running when a transfer is cancelled, and its writes may leave
holes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import asyncssh

_BYTES = 4 * 1024 * 1024
"""Maximum bytes in flight in one transfer."""
_ALL = 16 * 1024 * 1024
"""Maximum bytes in flight in all transfers, as long as each has its `_LEAST`."""
_LEAST = 512 * 1024
_SAFE = 16 * 1024
"""Size in bytes of a request that every server accepts."""
_LONGEST = 1024 * 1024
"""Maximum size in bytes of a request, even if the server accepts more."""
_REQUESTS = 256
"""Maximum number of requests in flight in one transfer, even if the server wants short ones."""


class _Shares:
    """Divides the bytes in flight among the transfers, so that many of them use no more memory than few."""

    def __init__(self) -> None:
        self._transfers = 0

    def join(self) -> None:
        self._transfers += 1

    def release(self) -> None:
        self._transfers -= 1

    @property
    def size(self) -> int:
        return max(_LEAST, min(_BYTES, _ALL // max(self._transfers, 1)))


_shares = _Shares()


async def read(
    handle: asyncssh.SFTPClientFile, limits: asyncssh.SFTPLimits, offset: int, end: int, stall: float
) -> AsyncIterator[bytes]:
    """Yield the bytes from `offset` to `end`, or to the current end of the file.

    Args:
        handle: opened with `block_size=0`.
        offset: first byte.
        end: byte after the last one.
        stall: seconds that one request may take.
    """
    size = min(limits.max_read_len or _SAFE, _LONGEST)
    ahead: deque[asyncio.Task[bytes]] = deque()
    _shares.join()
    try:
        while ahead or offset < end:
            while offset < end and len(ahead) < min(_shares.size / size, _REQUESTS):
                wanted = min(size, end - offset)
                ahead.append(asyncio.ensure_future(_read_all(handle, offset, wanted, stall)))
                offset += wanted
            last = offset >= end and len(ahead) == 1
            block = await ahead.popleft()
            if block:
                yield block
            if len(block) < size and not last:
                return  # the file became shorter
    finally:
        _shares.release()
        _drop(ahead)


class Writer:
    """Writes in order from an offset on. Must be closed by `drop`."""

    def __init__(self, handle: asyncssh.SFTPClientFile, limits: asyncssh.SFTPLimits, offset: int, stall: float) -> None:
        self.stored = offset
        """All bytes before this offset are written."""
        self._handle = handle
        self._size = min(limits.max_write_len or _SAFE, _LONGEST)
        self._offset = offset
        self._stall = stall
        self._ahead: deque[tuple[int, asyncio.Task[None]]] = deque()
        _shares.join()

    async def write(self, block: bytes) -> None:
        """Send a block once few enough bytes are in flight.

        Raises:
            asyncssh.SFTPError: of this or an earlier block.
        """
        view = memoryview(block)
        while view:
            while len(self._ahead) >= min(_shares.size / self._size, _REQUESTS):
                await self._next()
            piece, view = view[: self._size], view[self._size :]
            task = asyncio.ensure_future(self._write(bytes(piece), self._offset))
            self._offset += len(piece)
            self._ahead.append((len(piece), task))

    async def flush(self) -> None:
        """Wait until all blocks are written.

        Raises:
            asyncssh.SFTPError: of any block.
        """
        while self._ahead:
            await self._next()

    def drop(self) -> None:
        """Discard the answers of all writes in flight."""
        _shares.release()
        _drop([task for _, task in self._ahead])

    async def _next(self) -> None:
        size, task = self._ahead.popleft()
        await task
        self.stored += size

    async def _write(self, piece: bytes, offset: int) -> None:
        async with asyncio.timeout(self._stall):
            await self._handle.write(piece, offset)


async def _read_all(handle: asyncssh.SFTPClientFile, offset: int, size: int, stall: float) -> bytes:
    """Read exactly `size` bytes unless the file ends before. A server may answer with fewer."""
    parts = []
    async with asyncio.timeout(stall):
        while size:
            part = cast("bytes", await handle.read(size, offset))
            if not part:
                break
            if len(part) > size:
                raise asyncssh.SFTPBadMessage("more bytes than were asked for")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _drop(tasks: deque[asyncio.Task[bytes]] | list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # no caller waits for it any more
