"""Reads answers of an S3 server with limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession

from crestline.bounded import MAX_REFUSAL

_WHOLE = 60.0
"""Seconds until an answer is complete, or the content of an object begins."""


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]
    """Reads at most `MAX_REFUSAL` bytes of each answer except an object's content. More is an `aiohttp.ClientError`."""

    async def send(self, request: Any) -> AioAWSResponse:
        """See `aiobotocore.httpsession.AIOHTTPSession`, which has no limit."""
        streams, request.stream_output = request.stream_output, True
        try:
            async with asyncio.timeout(_WHOLE):
                answer = await super().send(request)
                if streams and answer.status_code < 300:
                    return answer
                return AioAWSResponse(answer.url, answer.status_code, answer.headers, await _read(answer.raw))
        finally:
            request.stream_output = streams


class _Content:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        return self._content


async def _read(answer: aiohttp.ClientResponse) -> _Content:
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > MAX_REFUSAL:
            answer.close()
            raise aiohttp.ClientPayloadError(f"An answer of the object store has more than {MAX_REFUSAL} bytes.")
    return _Content(bytes(content))
