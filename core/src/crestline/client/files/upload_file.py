"""One file to the system, by the cheapest way that the gateway has."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec

from crestline import clock
from crestline.client.backends.messages import TransferMethod
from crestline.client.files import signed_urls
from crestline.client.files.aliases import alias_for_jobs
from crestline.client.files.backoff import Backoff
from crestline.client.files.local import IncrementalChecksum, read_chunks, sha256
from crestline.client.files.parallel import run_parallel
from crestline.client.files.report import Meter
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.verify import is_same
from crestline.client.remote_names import make_directory, moves_in_pieces
from crestline.model import (
    ConflictError,
    CrestlineError,
    GatewayUnavailableError,
    RateLimitedError,
    TooLargeError,
    TransferError,
)
from crestline.model.crc32 import Crc32

log = logging.getLogger(__name__)

PART = 64 * 1024 * 1024
"""bytes of the first request to a Crestline gateway: few enough for proxies with limits on size and time"""
_LARGEST_PART = 1024 * 1024 * 1024
_SHORT = 5.0
"""seconds; a part that takes less is followed by one of twice the size, as a pause comes with each"""

_WHOLE_TRIES = 3
_PASSING = (GatewayUnavailableError, RateLimitedError)


async def upload_file(
    strategy: FileStrategy, source: Path, path: str, meter: Meter, *, checksum: str | None = None
) -> None:
    """Send `source` as `path` and make sure that it arrived.

    On a Crestline gateway the file appears whole or not at all, and an interrupted upload resumes where it stopped,
    in a later call too. Plain FirecREST overwrites the old file: there the new one is verified and sent again as a
    whole in doubt, but a reader may see half of it meanwhile.

    Args:
        path: absolute, of the file itself; its directory exists.
        checksum: hexadecimal SHA-256, if it is known.

    Raises:
        TransferError: it did not arrive as it is here.
    """
    status = source.stat()
    await strategy.send(source, path, meter, checksum)
    if status.st_mode & 0o100:
        await strategy.backend.files.chmod(path, f"{status.st_mode & 0o777:o}")


async def send_by_size(strategy: FileStrategy, source: Path, path: str, meter: Meter, checksum: str | None) -> None:
    """Send the content of a file to plain FirecREST: directly if it is small, else through a store or in pieces."""
    size = source.stat().st_size
    if size <= strategy.backend.max_direct_upload:
        await _send_direct(strategy, source, path, size, checksum or await sha256(source), meter)
    elif moves_in_pieces(strategy.backend):
        await _send_in_pieces(strategy, source, path, size, checksum or await sha256(source), meter)
    else:
        await _send_by_signed_urls(strategy, source, path, size, checksum or await sha256(source), meter)


async def send_parts(strategy: FileStrategy, source: Path, path: str, meter: Meter, checksum: str | None) -> None:
    """Send the content of a file to a Crestline gateway, in parts that an interrupted upload need not repeat."""
    size, modified = (status := source.stat()).st_size, status.st_mtime_ns
    backend = strategy.backend
    identity = f"{backend.gateway_url}\n{backend.system_name}\n{path}\n{source.resolve()}\n{size}\n{modified}"
    upload_id = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    total = IncrementalChecksum(Crc32())
    backoff = Backoff()
    done_before = meter.done
    offset: int | None = 0 if size <= PART else None
    part, largest = PART, _LARGEST_PART
    crc: str | None = None
    while True:
        try:
            if offset is None:
                offset = await strategy.backend.files.upload_offset(path, upload_id)
            meter.add(done_before + offset - meter.done, source.name)
            # The checksum of all goes ahead of the last part, so that one is small.
            end = size if size - offset <= PART else min(offset + part, size - PART)
            last = end == size
            if last:
                crc = await total.of(source)
            content = _counted(source, offset, end, total, meter)
            began = clock.monotonic()
            offset = await strategy.backend.files.upload_part(
                path, upload_id, offset, content, end - offset, last=last, checksum=crc if last else None
            )
            if last:
                return
            backoff.renew()
            if clock.monotonic() - began < _SHORT:
                part = min(2 * part, largest)
        except TooLargeError:  # a proxy's limit
            if part == PART:
                raise
            part = largest = max(PART, part // 2)
            offset = None
        except (*_PASSING, ConflictError, TransferError) as error:
            # The server may have stored the last part although its answer was lost. Then it has no upload to resume.
            if crc and not isinstance(error, TransferError):
                checksum = checksum or await sha256(source)
                if await is_same(strategy, path, size, checksum):
                    return
            await backoff.wait(error)
            part = largest = max(PART, part // 2)
            offset = None


async def _counted(
    source: Path, start: int, end: int, total: IncrementalChecksum, meter: Meter
) -> AsyncIterator[bytes]:
    async for chunk in read_chunks(source, start, end, total):
        yield chunk
        meter.add(len(chunk), source.name)


async def _send_direct(strategy: FileStrategy, source: Path, path: str, size: int, checksum: str, meter: Meter) -> None:
    content = await anyio.Path(source).read_bytes()
    directory, name = posixpath.split(path)
    backoff = Backoff()
    for attempt in range(_WHOLE_TRIES):
        if attempt:
            log.warning("%s did not arrive whole, sending it again", path)
        while True:
            try:
                await strategy.backend.files.upload_small(directory, name, content)
                break
            except _PASSING as error:
                await backoff.wait(error)
        if await is_same(strategy, path, size, checksum):
            meter.add(size, source.name)
            return
    raise _not_whole(path)


async def send_ahead(
    strategy: FileStrategy,
    source: Path,
    path: str,
    size: int,
    meter: Meter,
    *,
    on_started: Callable[[TransferMethod], Awaitable[None]] | None = None,
) -> TransferMethod:
    """Give a file to the store of a plain FirecREST; returns the job that brings it on from there.

    Whether it arrived is not known before that job has ended.

    Args:
        on_started: called with the job before anything is sent.

    Raises:
        TransferError: the store did not take it.
    """
    if moves_in_pieces(strategy.backend):
        return await _begin_join(strategy, source, path, size, await sha256(source), meter)
    transfer = await strategy.backend.transfers.upload(path, size)
    async with _cancelled_on_error(strategy, transfer):
        if on_started is not None:
            await on_started(transfer)
        await signed_urls.put_parts(transfer, source, size, meter, strategy.backend.verify)
    return transfer


async def _send_by_signed_urls(
    strategy: FileStrategy, source: Path, path: str, size: int, checksum: str, meter: Meter
) -> None:
    done_before = meter.done
    directory, name = posixpath.split(path)
    for attempt in range(_WHOLE_TRIES):
        if attempt:
            log.warning("%s did not arrive whole, sending it again", path)
            meter.add(done_before - meter.done, source.name)
        try:
            async with alias_for_jobs(strategy, directory) as place:
                transfer = await strategy.backend.transfers.upload(posixpath.join(place, name), size)
                async with _cancelled_on_error(strategy, transfer):
                    await signed_urls.put_parts(transfer, source, size, meter, strategy.backend.verify)
                    await strategy.finish(transfer)
        except TransferError:
            if attempt + 1 == _WHOLE_TRIES:
                raise
            continue
        if await is_same(strategy, path, size, checksum):
            return
    raise _not_whole(path)


async def _send_in_pieces(
    strategy: FileStrategy, source: Path, path: str, size: int, checksum: str, meter: Meter
) -> None:
    """Send pieces that one direct upload carries each, and let a job put them together; it also checks the whole."""
    done_before = meter.done
    for attempt in range(_WHOLE_TRIES):
        meter.add(done_before - meter.done, source.name)
        transfer = await _begin_join(strategy, source, path, size, checksum, meter)
        try:
            await strategy.finish(transfer)
            return
        except TransferError as error:
            await strategy.remove_if_exists(transfer.pieces)
            if attempt + 1 == _WHOLE_TRIES:
                raise
            log.warning("%s is sent again: %s", path, error.message)


async def _begin_join(
    strategy: FileStrategy, source: Path, path: str, size: int, checksum: str, meter: Meter
) -> TransferMethod:
    """Send what is lacking of the pieces; returns the job that makes `path` of them and then removes them."""
    await strategy.backend.transfers.check_size(path, size)
    step = strategy.backend.max_direct_upload
    identity = hashlib.sha256(f"{path}\n{checksum}\n{step}".encode("utf-8", "surrogateescape")).hexdigest()
    pieces = posixpath.join(await strategy.backend.system.default_workdir(), f".crestline-{identity[:16]}.pieces")
    await make_directory(strategy.backend, pieces)
    there = {file.name: file.size for file in await strategy.backend.files.list(pieces)}

    async def send(start: int) -> None:
        end = min(start + step, size)
        name = f"{start // step:06d}"
        if there.get(name) != end - start:
            content = b"".join([chunk async for chunk in read_chunks(source, start, end)])
            await strategy.backend.files.upload_small(pieces, name, content)
        meter.add(end - start, source.name)

    await run_parallel(partial(send, start) for start in range(0, size, step))
    transfer = await strategy.backend.transfers.join(pieces, path, checksum)
    return msgspec.structs.replace(transfer, pieces=pieces)


@contextlib.asynccontextmanager
async def _cancelled_on_error(strategy: FileStrategy, transfer: TransferMethod) -> AsyncIterator[None]:
    """The job that waits for the file holds a node for up to a day, so it must not outlive a failure."""
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True):
            try:
                await strategy.backend.jobs.cancel(transfer.job_id)
            except CrestlineError as error:
                log.warning("transfer job %s could not be cancelled: %s", transfer.job_id, error)
        raise


def _not_whole(path: str) -> TransferError:
    return TransferError(
        f"{path} did not arrive as it is here, in {_WHOLE_TRIES} tries.",
        hint="Look for another process that writes to it, and for the quota of its file system.",
    )
