"""A line that holds back every byte: what lies far away, on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK = 64 * 1024
WINDOW = 4 * 1024 * 1024
"""bytes of a connection that may be under way in one direction, as TCP's window has them"""


class DelayLine:
    """Passes TCP connections on to another port, late.

    Args:
        port: on this machine, where connections go.
        host: where connections go.
        delay: seconds that each byte is held back, each way.
    """

    def __init__(self, port: int, delay: float, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._delay = delay
        self.port = 0
        self.carried = 0
        """bytes, both ways"""

    async def serve(self, started: threading.Event) -> None:
        """Accept connections until `stop` is called."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end of `serve`
            await asyncio.sleep(2 * self._delay)  # the handshake
            there, back = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer), return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        room = asyncio.Semaphore(WINDOW // _CHUNK)

        async def send() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    break
                target.write(data)
                await target.drain()
                # The acknowledgement takes as long to come back as the data to arrive.
                loop.call_later(self._delay, room.release)
                self.carried += len(data)
            target.close()

        sending = asyncio.create_task(send())
        try:
            while True:
                await room.acquire()
                data = await source.read(_CHUNK)
                under_way.put_nowait((loop.time() + self._delay, data))
                if not data:
                    break
        finally:
            with contextlib.suppress(ConnectionError):
                await sending


@contextmanager
def delayed(port: int, delay: float, host: str = "127.0.0.1") -> Iterator[DelayLine]:
    """A line in a thread of its own."""
    line = DelayLine(port, delay, host)
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(line.serve(started)), daemon=True)
    thread.start()
    started.wait()
    try:
        yield line
    finally:
        line.stop()
        thread.join(10)
