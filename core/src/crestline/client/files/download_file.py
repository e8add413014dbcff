"""One file from the system, by the cheapest way that the gateway has."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec

from crestline.client.backends.messages import TransferMethod
from crestline.client.files import signed_urls
from crestline.client.files.aliases import file_for_jobs
from crestline.client.files.archive_job import has_ended
from crestline.client.files.backoff import Backoff
from crestline.client.files.local import PartFile
from crestline.client.files.parallel import AT_ONCE, run_parallel
from crestline.client.files.report import Meter
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.verify import is_same
from crestline.client.remote_names import moves_in_pieces, temporary_path
from crestline.client.streams import closing
from crestline.model import FileMissingError, GatewayUnavailableError, JobNotFoundError, RateLimitedError, TransferError
from crestline.private_files import write_private

_WHOLE_TRIES = 3


async def download_file(strategy: FileStrategy, path: str, status: dict[str, int], target: Path, meter: Meter) -> int:
    """Fetch `path` as `target`, which appears whole and verified or not at all; returns its size in bytes.

    After a failure, the received part is in `<name>.<identity>.part` beside `target`; a later call resumes from it
    as long as the remote file stays the same.

    Args:
        status: what stat(2) says of `path`.

    Raises:
        TransferError: it did not arrive as it is there, for example because it is being written.
    """
    size = status["size"]
    with _part(strategy, path, status, target) as part:
        done_before = meter.done
        failure = TransferError(
            f"{path} did not arrive as it is there, in {_WHOLE_TRIES} tries.",
            hint="It may be written at this moment: wait until that is done, or follow it as a log.",
        )
        for _ in range(_WHOLE_TRIES):
            meter.add(done_before + part.size - meter.done, target.name)
            try:
                arrived = await strategy.fetch(path, size, part, meter)
            except TransferError as error:
                failure = error
                continue
            if arrived:
                part.publish(executable=bool(status["mode"] & 0o100))
                return size
            part.truncate()
        raise failure


async def begin_download(
    strategy: FileStrategy, path: str, status: dict[str, int], target: Path
) -> TransferMethod | None:
    """Let a plain FirecREST bring a file to its store, or cut it into pieces; returns what the job that does so is.

    None: it has ended, and `download_file` with the same arguments fetches the file from there.
    """
    with _part(strategy, path, status, target) as part:
        pending = _PendingTransfer(part)
        transfer = pending.read()
        if transfer is None:
            transfer = await _begin(strategy, path)
            pending.write(transfer)
        elif not transfer.job_id or await has_ended(strategy.backend, transfer.job_id):
            return None
        return transfer


def _part(strategy: FileStrategy, path: str, status: dict[str, int], target: Path) -> PartFile:
    identity = "\n".join(
        [
            strategy.backend.gateway_url,
            strategy.backend.system_name,
            path,
            str(status["size"]),
            str(status["mtime"]),
            target.name,
        ]
    )
    return PartFile(target, hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest())


async def fetch_ranges(strategy: FileStrategy, path: str, size: int, part: PartFile, meter: Meter) -> bool:
    """Fetch what is lacking from a Crestline gateway; whether it is then as it is there."""
    there: str | None = None

    async def ask() -> None:
        nonlocal there
        there = await strategy.checksum(path, size)

    # At once, since the checksum of a large file takes as long as a good part of its transfer.
    await run_parallel([partial(_read_ranges, strategy, path, size, part, meter), ask])
    if there is None:
        return await is_same(strategy, path, part.size, await part.checksum())
    return there == await part.checksum()


async def fetch_by_size(strategy: FileStrategy, path: str, size: int, part: PartFile, meter: Meter) -> bool:
    """Fetch what is lacking from plain FirecREST: directly if it is small, else from a store or in pieces."""
    if size <= strategy.backend.max_direct_download:
        part.truncate()
        await _append(part, _once(await strategy.backend.files.download_small(path)), meter)
    else:
        await _fetch_from_job(strategy, path, size, part, meter)
    return await is_same(strategy, path, part.size, await part.checksum())


async def _fetch_from_job(strategy: FileStrategy, path: str, size: int, part: PartFile, meter: Meter) -> None:
    pending = _PendingTransfer(part)
    transfer = pending.read()
    try:
        if transfer is not None:
            if transfer.job_id:
                await strategy.finish(transfer)
        elif moves_in_pieces(strategy.backend):
            await strategy.backend.transfers.check_size(path, size)
            transfer = await _begin(strategy, path)
            pending.write(transfer)
            await strategy.finish(transfer)
        else:
            async with file_for_jobs(strategy, path) as name:
                transfer = await strategy.backend.transfers.download(name)
                await strategy.finish(transfer)
        if transfer.pieces:
            pending.write(msgspec.structs.replace(transfer, job_id=""))  # it has ended well
            await _fetch_pieces(strategy, transfer, size, part, meter)
        elif transfer.download_url is not None:
            await signed_urls.get(transfer.download_url, part, size, meter, strategy.backend.verify)
        else:
            raise TransferError("The gateway gave no URL for a download.", hint="Report it to the site.")
    except (JobNotFoundError, TransferError) as error:
        pending.forget()
        if transfer is not None and transfer.pieces:
            await strategy.remove_if_exists(transfer.pieces)
        if isinstance(error, TransferError):
            raise
        raise TransferError(f"The job that brings {path} to the store is gone.", hint="Download it again.") from error
    pending.forget()


async def _begin(strategy: FileStrategy, path: str) -> TransferMethod:
    if not moves_in_pieces(strategy.backend):
        return await strategy.backend.transfers.download(path)
    return await strategy.backend.transfers.split(
        path, await temporary_path(strategy.backend, ".pieces"), strategy.backend.max_direct_download
    )


async def _fetch_pieces(
    strategy: FileStrategy, transfer: TransferMethod, size: int, part: PartFile, meter: Meter
) -> None:
    """Append the pieces that are lacking, some at once, and then remove them all there."""
    if part.size % transfer.part_size:
        meter.add(-part.size, part.target.name)
        part.truncate()
    count = -(-size // transfer.part_size)
    for start in range(part.size // transfer.part_size, count, AT_ONCE):
        content: dict[int, bytes] = {}

        async def fetch(number: int, into: dict[int, bytes] = content) -> None:
            path = posixpath.join(transfer.pieces, f"{number:06d}")
            try:
                into[number] = await strategy.backend.files.download_small(path)
            except FileMissingError as error:
                raise TransferError(f"The piece {path} is gone.", hint="Download the file again.") from error

        numbers = range(start, min(start + AT_ONCE, count))
        await run_parallel(partial(fetch, number) for number in numbers)
        for number in numbers:
            expected = min(transfer.part_size, size - number * transfer.part_size)
            if len(content[number]) != expected:
                raise TransferError(f"A piece has {len(content[number])} bytes of {expected}.", hint="Try again.")
            await _append(part, _once(content[number]), meter)
    await strategy.remove_if_exists(transfer.pieces)


async def _read_ranges(strategy: FileStrategy, path: str, size: int, part: PartFile, meter: Meter) -> None:
    backoff = Backoff()
    while part.size < size:
        before = part.size
        try:
            async with closing(strategy.backend.files.read(path, before)) as chunks:
                await _append(part, chunks, meter)
            if part.size < size:
                raise GatewayUnavailableError(f"{path} ends before its {size} bytes.")
        except (GatewayUnavailableError, RateLimitedError) as error:
            if part.size > before:
                backoff.renew()
            await backoff.wait(error)


async def _append(part: PartFile, chunks: AsyncIterator[bytes], meter: Meter) -> None:
    async for count in part.append(chunks):
        meter.add(count, part.target.name)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


class _PendingTransfer:
    """A download that plain FirecREST prepares in a job: a file beside the unfinished one, for a later call.

    It holds a signed URL, so only its owner may read it.
    """

    def __init__(self, part: PartFile) -> None:
        self._path: Path = part.path.with_suffix(".transfer")

    def read(self) -> TransferMethod | None:
        """The transfer; None if none was started."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=TransferMethod)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, transfer: TransferMethod) -> None:
        """Store the transfer in a file that only its owner may read."""
        write_private(self._path, msgspec.json.encode(transfer))

    def forget(self) -> None:
        """Remove the file, if it exists."""
        self._path.unlink(missing_ok=True)
