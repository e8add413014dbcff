"""`upload`: files and directories to a system."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from pathlib import Path

from anyio.to_thread import run_sync

from crestline.client.files.ignore import IgnoreRules
from crestline.client.files.local import local_errors, sha256
from crestline.client.files.report import Meter, Progress, TransferReport
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.tree import Listing, TreeEntry
from crestline.client.files.upload_archive import pack_and_extract
from crestline.client.files.upload_file import send_ahead, upload_file
from crestline.client.files.upload_tree import upload_tree
from crestline.client.files.verify import is_same
from crestline.client.remote_names import (
    check_remote,
    is_direct,
    is_directory,
    is_job_safe_path,
    make_directory,
    moves_in_pieces,
    needs_transfer_job,
    remote_stat,
)
from crestline.model import FileType, InvalidRequestError, TransferError

# Asking first whether the file is there already pays from here on.
_WORTH_ASKING = 1024 * 1024


async def upload(
    strategy: FileStrategy,
    local: str | os.PathLike[str],
    remote: str,
    *,
    progress: Progress | None = None,
    wait: bool = True,
    key: str | None = None,
    ignore: IgnoreRules | None = None,
    exact: bool = False,
) -> TransferReport:
    """Upload a file or a directory. Files that are equal on both sides are not sent.

    A file is written as `remote`. If `remote` is a directory or ends in `/`, the file is written into that directory,
    which is created if necessary. The content of a directory is written into the directory `remote`, which is created
    if necessary. Other files in it remain. Links, empty directories and executable bits are kept.

    On a Crestline gateway every file appears complete or not at all. Plain FirecREST writes in place, so the client
    verifies files there and sends them again if they differ.

    Args:
        strategy: the transfer methods of the system; `System.upload` supplies them.
        local: file or directory on this machine.
        remote: absolute path on the system.
        progress: called with the transferred bytes, the total bytes and the name of the file.
        wait: False returns while jobs of a plain FirecREST still run: those that move a large file or an archive from
            the object store to the system, or unpack an archive. When the jobs in `TransferReport.pending` have ended,
            repeat the call on any machine with the same files. It may return further jobs. Files are verified in the
            end.
        key: name of the transfer. Calls with the same key resume the same archive of a directory. Default: the
            absolute path of `local`.
        ignore: rules for files to exclude; `TransferReport.excluded` lists them. Default: send all files.
        exact: True if `remote` names the file itself. A directory of that name is then an error.

    Returns:
        the number of files and bytes sent, and what was excluded or is pending.

    Raises:
        FileMissingError: `local`, or the parent directory of `remote`, does not exist.
        InvalidRequestError: a path has characters that the gateway does not accept.
        TransferError: a file arrived with other content.
    """
    meter = Meter(progress)
    path = check_remote(remote)
    with local_errors():
        source = Path(local)
        if await run_sync(source.is_dir):
            return await upload_tree(
                strategy, source, path, meter, wait=wait, key=key or str(source.absolute()), ignore=ignore
            )
        size = source.stat().st_size
        worth_asking = _WORTH_ASKING if wait else min(_WORTH_ASKING, strategy.backend.max_direct_upload + 1)
        status = await _status(strategy, path)
        if not exact and (remote.endswith("/") or is_directory(status)):
            if status is None:
                await make_directory(strategy.backend, path)
            elif not is_directory(status):
                raise InvalidRequestError(f"{path} is not a directory.", hint="Leave the slash at its end out.")
            path = posixpath.join(path, source.name)
            status = await _status(strategy, path) if size >= worth_asking else None
        if is_directory(status):
            raise InvalidRequestError(f"{path} is a directory.", hint="Remove it, or give the file another name.")
        meter.total = size
        checksum: str | None = None
        if size >= worth_asking and status is not None and status["size"] == size:
            checksum = await sha256(source)
            # What a job has brought is newer there, unless that machine's clock is slow: then it would travel for ever.
            is_newer_there = not wait or source.stat().st_mtime < status["mtime"]
            if await is_same(strategy, path, size, checksum, otherwise=is_newer_there):
                mode = source.stat().st_mode
                if mode & 0o100 and not status["mode"] & 0o100:
                    await strategy.backend.files.chmod(path, f"{mode & 0o777:o}")
                return TransferReport(unchanged=1)
        return await strategy.send_one(source, path, meter, status=status, checksum=checksum, wait=wait)


async def _status(strategy: FileStrategy, path: str) -> dict[str, int] | None:
    """As `remote_stat`; a name that cannot be asked for counts as new, since an archive puts it there anyhow."""
    if not strategy.is_askable(posixpath.basename(path)):
        return None
    return await remote_stat(strategy.backend, path)


async def send_one_to_plain(
    strategy: FileStrategy,
    source: Path,
    path: str,
    meter: Meter,
    *,
    status: dict[str, int] | None,
    checksum: str | None,
    wait: bool,
) -> TransferReport:
    """`FileStrategy.send_one` for plain FirecREST."""
    size, direct = source.stat().st_size, strategy.backend.max_direct_upload
    if status is None and size > direct:
        await strategy.backend.files.stat(
            posixpath.dirname(path)
        )  # before a job fails because the directory does not exist
    if _needs_archive(strategy, path, size):
        await _upload_in_archive(strategy, source, path, meter)
    elif not wait and needs_transfer_job(strategy.backend, path, size, direct):
        job = await send_ahead(strategy, source, path, size, meter)
        return TransferReport(files=1, bytes=size, pending=(job.job_id,), temporary=job.temporary)
    else:
        await upload_file(strategy, source, path, meter, checksum=checksum)
    return TransferReport(files=1, bytes=size)


def _needs_archive(strategy: FileStrategy, path: str, size: int) -> bool:
    """Whether plain FirecREST can write this only by unpacking it; it never answers a direct upload of no bytes."""
    name = posixpath.basename(path)
    if size > strategy.backend.max_direct_upload and is_direct(name):
        return not (moves_in_pieces(strategy.backend) or is_job_safe_path(name))
    return size == 0 or not is_direct(name)


async def _upload_in_archive(strategy: FileStrategy, source: Path, path: str, meter: Meter) -> None:
    directory, name = posixpath.split(path)
    status = source.stat()
    entry = TreeEntry(
        path=name,
        type=FileType.FILE,
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        modified=status.st_mtime_ns,
    )
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        Path(place, name).symlink_to(source.resolve())
        await pack_and_extract(strategy, Path(place), directory, [entry], meter)
    if Listing(await strategy.backend.files.list(directory, hidden=True)).differs(entry, same_content=True):
        raise TransferError(f"{path!r} did not arrive as it is here.", hint="Send it again.")
