"""Bytes to and from signed URLs: a store beside the gateway, reached without the client's credentials.

A signed URL is a secret for as long as it lives: none reaches a log or an exception.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from xml.sax.saxutils import escape

import httpx

from crestline.bounded import ENCODING, MAX_REFUSAL, read_whole
from crestline.client.backends.messages import TransferMethod
from crestline.client.files.backoff import Backoff
from crestline.client.files.local import PartFile, read_chunks
from crestline.client.files.parallel import run_parallel
from crestline.client.files.report import Meter
from crestline.client.log_redaction import redact_logs
from crestline.client.streams import closing
from crestline.model import CrestlineError, GatewayUnavailableError, TransferError

T = TypeVar("T")

_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
# A store puts many parts together before it answers, and S3 keeps the connection alive meanwhile.
_COMPLETION_TIMEOUT = httpx.Timeout(600.0, connect=15.0)
_EXPIRED_HINT = "The signed URL may have expired: start the transfer again."


async def put_parts(
    transfer: TransferMethod, source: Path, size: int, meter: Meter, verify: ssl.SSLContext | bool
) -> None:
    """Send a file as the parts of a multipart upload and complete it.

    Raises:
        TransferError: the URLs do not fit the file, or the store refused them.
        GatewayUnavailableError: the store does not answer.
    """
    starts = range(0, size, transfer.part_size) if transfer.part_size > 0 else range(0)
    if len(starts) != len(transfer.part_urls) or transfer.complete_url is None:
        raise TransferError(
            f"The gateway gave {len(transfer.part_urls)} URLs for {len(starts)} parts.", hint="Report it to the site."
        )
    tags: dict[int, str] = {}

    def sender(client: httpx.AsyncClient, number: int, url: str, start: int) -> Callable[[], Awaitable[None]]:
        async def send() -> None:
            end = min(start + transfer.part_size, size)
            tags[number] = await _put_part(client, url, source, start, end, meter)

        return send

    async with _client(verify) as client:
        parts = enumerate(zip(transfer.part_urls, starts, strict=True), start=1)
        await run_parallel([sender(client, number, url, start) for number, (url, start) in parts])
        await _complete(client, transfer.complete_url, tags)


async def _put_part(client: httpx.AsyncClient, url: str, source: Path, start: int, end: int, meter: Meter) -> str:
    backoff = Backoff()
    while True:
        sent = 0

        async def content() -> AsyncIterator[bytes]:
            nonlocal sent
            async for chunk in read_chunks(source, start, end):
                yield chunk
                sent += len(chunk)
                meter.add(len(chunk), source.name)

        try:
            headers = {"Content-Length": str(end - start)}
            async with _answer(client, "PUT", url, content=content(), headers=headers) as answer:
                if tag := answer.headers.get("ETag"):
                    return str(tag)
            raise TransferError("The store confirmed a part without an ETag.", hint="Report it to the site.")
        except GatewayUnavailableError as error:
            meter.add(-sent, source.name)
            await backoff.wait(error)


async def _complete(client: httpx.AsyncClient, url: str, tags: dict[int, str]) -> None:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
        for number, tag in sorted(tags.items())
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    headers = {"Content-Type": "application/xml", **ENCODING}
    backoff = Backoff()
    while True:
        try:
            async with _answer(
                client, "POST", url, content=body, headers=headers, timeout=_COMPLETION_TIMEOUT
            ) as answer:
                # S3 may say 200 first and find an error later.
                if b"<Error" in (await _typed(read_whole(answer, answer.request, MAX_REFUSAL))).content:
                    raise GatewayUnavailableError("The store could not put the parts together.")
                return
        except GatewayUnavailableError as error:
            await backoff.wait(error)


async def get(url: str, part: PartFile, size: int, meter: Meter, verify: ssl.SSLContext | bool) -> None:
    """Fetch what `part` lacks of `size` bytes, from where it stands, again after every cut.

    Raises:
        TransferError: the store refused the URL or has another number of bytes.
        GatewayUnavailableError: the store does not answer.
    """
    backoff = Backoff()
    async with _client(verify) as client:
        while part.size < size:
            before = part.size
            try:
                await _get_once(client, url, part, meter)
                if part.size < size:
                    raise GatewayUnavailableError("The store sent fewer bytes than the file has.")
            except GatewayUnavailableError as error:
                if part.size > before:
                    backoff.renew()
                await backoff.wait(error)
    if part.size > size:
        part.truncate()
        raise TransferError("The store has more bytes than the file.", hint="Download it again.")


async def _get_once(client: httpx.AsyncClient, url: str, part: PartFile, meter: Meter) -> None:
    headers = {"Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    async with _answer(client, "GET", url, headers=headers) as answer:
        if part.size and not answer.headers.get("Content-Range", "").startswith(f"bytes {part.size}-"):
            meter.add(-part.size, part.target.name)
            part.truncate()
            if answer.status_code == 206:
                raise TransferError("The store sent another part than it was asked for.", hint="Download it again.")
        async for count in part.append(_chunks(answer)):
            meter.add(count, part.target.name)


def _client(verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
    redact_logs()
    return httpx.AsyncClient(timeout=_TIMEOUT, verify=verify, follow_redirects=False)


@asynccontextmanager
async def _answer(client: httpx.AsyncClient, method: str, url: str, **options: object) -> AsyncIterator[httpx.Response]:
    """A successful answer, its body unread."""
    answer = await _typed(_send(client, method, url, options))
    try:
        if not answer.is_success:
            raise _refusal(answer.status_code, answer.url.host)
        yield answer
    finally:
        await answer.aclose()


async def _send(client: httpx.AsyncClient, method: str, url: str, options: dict[str, Any]) -> httpx.Response:
    return await client.send(client.build_request(method, url, **options), stream=True)


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    async with closing(answer.aiter_raw()) as chunks:
        while (chunk := await _typed(_next(chunks))) is not None:
            yield chunk


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _refusal(status: int, host: str) -> CrestlineError:
    if status in (408, 425, 429) or status >= 500:
        return GatewayUnavailableError(f"The store at {host} answered {status}.")
    return TransferError(f"The store at {host} refused a signed URL: {status}.", hint=_EXPIRED_HINT)


async def _typed(work: Coroutine[Any, Any, T]) -> T:
    """httpx's errors carry the request, and with it the URL: none becomes the cause or context of another error."""
    failure: CrestlineError
    try:
        return await work
    except (httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError) as error:
        failure = GatewayUnavailableError(f"The store of the signed URLs does not answer ({type(error).__name__}).")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = TransferError(f"A signed URL cannot be used ({type(error).__name__}).", hint="Report it to the site.")
    raise failure
