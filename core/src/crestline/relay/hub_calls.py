"""The way from the job to the hub: requests for the hub's API, and for nothing else."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from crestline.relay.http_head import END, MAX_HEAD, READ_TIMEOUT, BadHeadError, answer, parse_head
from crestline.relay.mux import Stream
from crestline.relay.splice import give_up, splice


async def call_hub(stream: Stream, hub_api: str) -> None:
    """Serve one stream that an agent has opened: one request, to a path below the API's URL."""
    parts = urlsplit(hub_api)
    secure = parts.scheme == "https"
    received = b""
    try:
        while END not in received:
            data = await asyncio.wait_for(stream.read(), READ_TIMEOUT)
            received += data
            if not data or len(received) > MAX_HEAD:
                raise BadHeadError("No head of a request within limits.")
        raw, _, body = received.partition(END)
        head = parse_head(raw + END)
    except (BadHeadError, TimeoutError) as error:
        await _refuse(stream, answer(400, "Bad Request", f"{error}\n"))
        return
    except ConnectionError:
        return
    if not f"{head.path}/".startswith(parts.path.rstrip("/") + "/") or ".." in head.path:
        await _refuse(stream, answer(403, "Forbidden", "The relay leads to the hub's API alone.\n"))
        return
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if secure else 80), ssl=ssl.create_default_context() if secure else None
        )
    except OSError:
        await _refuse(stream, answer(502, "Bad Gateway", "The hub does not answer.\n", "Retry-After: 5"))
        return
    writer.write(head.for_one_request(host=parts.netloc) + body)
    await splice(stream, reader, writer)


async def _refuse(stream: Stream, message: bytes) -> None:
    try:
        await stream.write(message)
        await stream.end()
    except ConnectionError:
        await give_up(stream)
