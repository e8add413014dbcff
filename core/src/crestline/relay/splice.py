"""Connects a stream of the relay with a socket, in both directions."""

from __future__ import annotations

import asyncio

from crestline.relay.frames import CHUNK_SIZE
from crestline.relay.mux import Stream


async def splice(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until both sides have ended or one of them fails, then close the socket and the stream."""
    outward = asyncio.ensure_future(_to_stream(reader, stream))
    inward = asyncio.ensure_future(_to_socket(stream, writer))
    try:
        await asyncio.gather(outward, inward)
    except OSError:
        writer.transport.abort()
    finally:
        outward.cancel()
        inward.cancel()
        writer.close()
        await give_up(stream)


async def give_up(stream: Stream) -> None:
    """Reset a stream unless it is closed, whether or not the channel still exists."""
    try:
        await stream.reset()
    except ConnectionError:
        stream.lose()


async def _to_stream(reader: asyncio.StreamReader, stream: Stream) -> None:
    while True:
        data = await reader.read(CHUNK_SIZE)
        if not data:
            break
        await stream.write(data)
    await stream.end()


async def _to_socket(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while data := await stream.read():
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
