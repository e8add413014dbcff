"""A relay on loopback that holds every HTTP/1.1 request for a time, as a distant gateway would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def distant(url: str, seconds: float) -> Iterator[str]:
    """The URL behind which `url` answers so much later."""
    ready: threading.Event = threading.Event()
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    parts = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(parts.hostname, parts.port)
        answered = [True]
        with suppress(asyncio.CancelledError):  # at the end; the streams' own callback would complain
            await asyncio.gather(_up(reader, requests, answered, seconds), _down(answers, writer, answered))

    async def start() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: list[bool], seconds: float) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if answered[0]:  # the first bytes of a request
                answered[0] = False
                await asyncio.sleep(seconds)
            writer.write(data)
            await writer.drain()
    writer.close()


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: list[bool]) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            answered[0] = True
            writer.write(data)
            await writer.drain()
    writer.close()
