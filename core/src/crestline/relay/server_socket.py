"""Connects to the server in the job by its unix socket, also if many others do so at the same moment."""

from __future__ import annotations

import asyncio
import socket

from crestline.relay.frames import CHUNK_SIZE


async def connect_unix(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, waiting while the server's queue of new ones is full.

    Raises:
        OSError: the server does not listen.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:  # the queue is full: asyncio would consider it connected
            connection.setblocking(True)
            await asyncio.get_running_loop().run_in_executor(None, connection.connect, path)
            connection.setblocking(False)
        return await asyncio.open_unix_connection(sock=connection, limit=2 * CHUNK_SIZE)
    except BaseException:
        connection.close()
        raise
