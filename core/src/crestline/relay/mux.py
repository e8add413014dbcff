"""Many streams over one message channel, each with its own flow control, so that a slow reader only blocks its own
stream."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from crestline.relay.frames import (
    CHUNK_SIZE,
    COUNT,
    DATA,
    END,
    OPEN,
    RESET,
    WINDOW,
    WINDOW_SIZE,
    frame,
    parse,
)

MAX_STREAMS = 1024
"""Maximum number of streams on one channel. If a peer opens more, they are reset."""
MAX_UNREAD = 32 << 20
"""Maximum number of received bytes of a channel that have not been read. Above it, the stream that was read the
longest time ago is reset."""


class ChannelLostError(ConnectionError):
    """The channel was closed, or its peer violated the protocol."""


class Stream:
    """A byte stream in both directions, created by `Multiplexer`."""

    def __init__(self, mux: Multiplexer, number: int) -> None:
        self.number = number
        self._mux = mux
        self._received: deque[bytes] = deque()
        self._received_size = 0
        self.last_read = mux.next_read()
        self._taken = 0
        self._credit = WINDOW_SIZE
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._peer_ended = False
        self._ended = False
        self.broken = False

    async def read(self) -> bytes:
        """Return the next bytes; empty when the peer has ended the stream.

        Raises:
            ConnectionResetError: the stream was reset or the channel lost.
        """
        await self._grant()
        while not self._received:
            if self._peer_ended:
                return b""
            if self.broken:
                raise ConnectionResetError("The stream was reset.")
            self._news.clear()
            await self._news.wait()
        chunk = self._received.popleft()
        self._received_size -= len(chunk)
        self._mux.unread -= len(chunk)
        self.last_read = self._mux.next_read()
        self._taken += len(chunk)
        return chunk

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting while the peer has no room.

        Raises:
            ConnectionResetError: the stream was reset or the channel lost.
        """
        start = 0
        while start < len(data):
            while not self._credit and not self.broken:
                self._room.clear()
                await self._room.wait()
            if self.broken:
                raise ConnectionResetError("The stream was reset.")
            piece = data[start : start + min(self._credit, CHUNK_SIZE)]
            self._credit -= len(piece)
            start += len(piece)
            await self._mux.send(frame(DATA, self.number, piece))

    async def end(self) -> None:
        """Close the writing direction of the stream."""
        if not self._ended and not self.broken:
            self._ended = True
            await self._mux.send(frame(END, self.number))
            self._forget_if_over()

    async def reset(self) -> None:
        """Abort the stream in both directions. Has no effect on a closed one."""
        self.discard()
        if not self.broken and not (self._ended and self._peer_ended):
            self.lose()
            self._mux.forget(self.number)
            await self._mux.send(frame(RESET, self.number))

    async def _grant(self) -> None:
        """Grant the peer the room that reading has made, in large steps."""
        if self._taken >= WINDOW_SIZE // 2 and not self._peer_ended and not self.broken:
            taken, self._taken = self._taken, 0
            await self._mux.send(frame(WINDOW, self.number, COUNT.pack(taken)))

    def _forget_if_over(self) -> None:
        if self._ended and self._peer_ended:
            self._mux.forget(self.number)

    # Events of the peer. The multiplexer calls these methods, which never wait.

    def on_data(self, payload: bytes) -> None:
        self._received.append(payload)
        self._received_size += len(payload)
        self._mux.unread += len(payload)
        if self._received_size > WINDOW_SIZE or self._peer_ended:
            raise ChannelLostError("The peer sent more than it was granted.")
        self._news.set()

    def widen(self, size: int) -> None:
        self._credit += size
        self._room.set()

    def peer_ended(self) -> None:
        self._peer_ended = True
        self._news.set()
        self._forget_if_over()

    @property
    def has_unread(self) -> bool:
        return bool(self._received)

    def discard(self) -> None:
        self._mux.unread -= self._received_size
        self._received.clear()
        self._received_size = 0

    def lose(self) -> None:
        self.broken = True
        self._news.set()
        self._room.set()


class Multiplexer:
    """Streams over a channel of messages.

    Args:
        send: sends one message on the channel; may wait while the channel is full.
        opens_even: whether the streams that this side opens have even numbers; the peer's have odd ones.
        on_open: called with a stream that the peer opens and its purpose; None: such streams are reset.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        *,
        opens_even: bool,
        on_open: Callable[[Stream, str], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._send = send
        self._sending = asyncio.Lock()  # first come, first served: fair among the streams
        self._next = 2 if opens_even else 1
        self._peer_parity = 1 if opens_even else 0
        self._on_open = on_open
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = itertools.count()
        self.unread = 0
        """Received bytes that have not been read yet."""
        self.closed = asyncio.Event()

    def next_read(self) -> int:
        """Number the reads of all streams, to find the one that was read the longest time ago."""
        return next(self._reads)

    async def open(self, purpose: str) -> Stream:
        """Open a stream.

        Raises:
            ChannelLostError: the channel is closed.
        """
        stream = Stream(self, self._next)
        self._next += 2
        self._streams[stream.number] = stream
        await self.send(frame(OPEN, stream.number, purpose.encode()))
        return stream

    async def send(self, message: bytes) -> None:
        """Send one frame.

        Raises:
            ChannelLostError: the channel is closed.
        """
        async with self._sending:
            if self.closed.is_set():
                raise ChannelLostError("The relay's channel is gone.")
            try:
                await self._send(message)
            except (OSError, RuntimeError) as error:
                raise ChannelLostError("The relay's channel is gone.") from error

    async def receive(self, message: bytes) -> None:
        """Process one message of the channel, without waiting for a reader.

        Raises:
            ChannelLostError: the peer violated the protocol; the channel must be closed.
        """
        try:
            kind, number, payload = parse(message)
        except ValueError as error:
            raise ChannelLostError(str(error)) from error
        if kind == OPEN:
            await self._opened(number, payload)
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # this side has reset it meanwhile
        if kind == DATA:
            stream.on_data(payload)
            if self.unread > MAX_UNREAD:
                waiting = (each for each in self._streams.values() if each.has_unread)
                stalled = min(waiting, key=lambda each: each.last_read, default=stream)
                await stalled.reset()
        elif kind == WINDOW and len(payload) == COUNT.size:
            stream.widen(*COUNT.unpack(payload))
        elif kind == END:
            stream.peer_ended()
        elif kind == RESET:
            self.forget(number)
            stream.lose()
        else:
            raise ChannelLostError(f"A frame of unknown kind {kind}.")

    async def _opened(self, number: int, payload: bytes) -> None:
        if number % 2 != self._peer_parity or number in self._streams:
            raise ChannelLostError(f"The peer opened stream {number}, which is not its to open.")
        if self._on_open is None or len(self._streams) >= MAX_STREAMS:
            await self.send(frame(RESET, number))
            return
        stream = self._streams[number] = Stream(self, number)
        task = asyncio.ensure_future(self._on_open(stream, payload.decode(errors="replace")))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, number: int) -> None:
        """Remove a closed stream."""
        self._streams.pop(number, None)

    def close(self) -> None:
        """Close the channel. Every stream is lost."""
        self.closed.set()
        for stream in list(self._streams.values()):
            stream.lose()
        self._streams.clear()
