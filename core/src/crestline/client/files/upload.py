"""`upload`: files and directories to a system."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from pathlib import Path

from anyio.to_thread import run_sync

from crestline.client.backends.base import Backend
from crestline.client.files.local import local_errors, sha256
from crestline.client.files.names import (
    check_remote,
    is_direct,
    is_directory,
    is_fit_for_jobs,
    make_directory,
    remote_stat,
    takes_a_job,
)
from crestline.client.files.report import Meter, Progress, Report
from crestline.client.files.tree import Entry, Listing
from crestline.client.files.upload_file import send_ahead, upload_file
from crestline.client.files.upload_tree import pack_and_extract, upload_tree
from crestline.client.files.verify import is_same
from crestline.model import FileType, InvalidRequestError, TransferError

# Asking first whether the file is there already pays from here on.
_WORTH_ASKING = 1024 * 1024


async def upload(
    backend: Backend,
    local: str | os.PathLike[str],
    remote: str,
    *,
    progress: Progress | None = None,
    wait: bool = True,
) -> Report:
    """Send a file or a directory; what is the same on both sides does not travel.

    A file is sent as `remote`, or into it if `remote` ends in `/` (then it is made if need be) or is a directory.
    Of a directory all that it holds is sent into the directory `remote`, which is made if need be; what else is there
    stays. Links, empty directories and executable bits survive.

    On a Crestline gateway every file appears whole or not at all. Plain FirecREST cannot do that: files are verified
    there and sent again on doubt.

    Args:
        wait: False leaves a large file, also one of a directory where they are few, to the job in which a plain
            FirecREST brings it from its store to the system: when the jobs `Report.pending` have ended, a call that
            waits verifies it, and sends it again on doubt.

    Raises:
        MissingFileError: `local`, or the directory that `remote` is in, does not exist.
        InvalidRequestError: a path that the gateway cannot name.
        TransferError: something did not arrive as it is here.
    """
    meter = Meter(progress)
    path = check_remote(remote)
    with local_errors():
        source = Path(local)
        if await run_sync(source.is_dir):
            return await upload_tree(backend, source, path, meter, wait=wait)
        size = source.stat().st_size
        status = await remote_stat(backend, path)
        if remote.endswith("/") or is_directory(status):
            if status is None:
                await make_directory(backend, path)
            elif not is_directory(status):
                raise InvalidRequestError(f"{path} is no directory.", hint="Leave the slash at its end out.")
            path = posixpath.join(path, source.name)
            status = await remote_stat(backend, path) if size >= _WORTH_ASKING else None
            if is_directory(status):
                raise InvalidRequestError(f"{path} is a directory.", hint="Remove it, or give the file another name.")
        meter.total = size
        checksum: str | None = None
        if size >= _WORTH_ASKING and status is not None and status["size"] == size:
            checksum = await sha256(source)
            if await is_same(backend, path, size, checksum):
                mode = source.stat().st_mode
                if mode & 0o100 and not status["mode"] & 0o100:
                    await backend.chmod(path, f"{mode & 0o777:o}")
                return Report(skipped=1)
        if _needs_archive(backend, path, size):
            await _upload_in_archive(backend, source, path, meter)
        elif not wait and takes_a_job(backend, path, size, backend.max_direct_upload):
            return Report(files=1, bytes=size, pending=(await send_ahead(backend, source, path, size, meter),))
        else:
            await upload_file(backend, source, path, meter, checksum=checksum)
        return Report(files=1, bytes=size)


def _needs_archive(backend: Backend, path: str, size: int) -> bool:
    """Whether plain FirecREST can write this name only by unpacking it."""
    if "content" in backend.features:
        return False
    name = posixpath.basename(path)
    return not is_direct(name) or (size > backend.max_direct_upload and not is_fit_for_jobs(name))


async def _upload_in_archive(backend: Backend, source: Path, path: str, meter: Meter) -> None:
    directory, name = posixpath.split(path)
    status = source.stat()
    entry = Entry(
        path=name,
        type=FileType.FILE,
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        modified=status.st_mtime_ns,
    )
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        Path(place, name).symlink_to(source.resolve())
        await pack_and_extract(backend, Path(place), directory, [entry], meter)
    if Listing(await backend.list(directory, hidden=True)).differs(entry, same_content=True):
        raise TransferError(f"{path!r} did not arrive as it is here.", hint="Send it again.")
