"""`download`: files and directories from a system."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from crestline.client.backends.capabilities import Capability
from crestline.client.connection import Connection
from crestline.client.files.download_file import begin_download, download_file
from crestline.client.files.download_tree import download_tree
from crestline.client.files.failures import Failures
from crestline.client.files.local import local_errors, sha256
from crestline.client.files.names import (
    check_remote,
    expand,
    has_pattern,
    is_askable,
    is_directory,
    moves_in_pieces,
    remote_stat,
    staged,
    takes_a_job,
)
from crestline.client.files.report import Meter, Progress, Report
from crestline.client.files.verify import is_same
from crestline.model import FileType, InvalidRequestError, MissingFileError

# Asking first whether the file is here already pays from here on.
_WORTH_ASKING = 1024 * 1024
_MOST_LINKS = 40


async def download(
    connection: Connection,
    remote: str,
    local: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    wait: bool = True,
    key: str | None = None,
) -> Report:
    """Fetch a file or a directory; what is the same on both sides does not travel.

    A file is written as `local`, or into it if `local` ends in `/` (then it is made if need be) or is a directory.
    Of a directory all that it holds is written into the directory `local`. `remote` may be a pattern of a shell
    (`*`, `?`, `[...]`): then `local` is a directory, and what matches is written into it under its own name.

    Every file appears whole and verified or not at all; one that was cut off goes on where it stood, in a later call
    too.

    Args:
        wait: False leaves what a plain FirecREST does in jobs to these: bringing a large file to its store, also one of
            a directory of which only few files have to come, and packing any other directory. When the jobs
            `Report.pending` have ended, another call goes on from there, and leaves jobs in its turn or none; what is
            in the store already only one on this machine knows.
        key: calls with the same key go on with each other's archive of this directory, others do not. Default: the
            absolute path of `local`.

    Raises:
        MissingFileError: `remote` does not exist, or nothing matches it.
        TransferError: something did not arrive as it is there; of a directory or a pattern, all else did.
    """
    meter = Meter(progress)
    path = check_remote(remote)
    into = os.fspath(local).endswith(("/", os.sep))
    with local_errors():
        if not has_pattern(path):
            return await _download_one(connection, path, Path(local), meter, into=into, wait=wait, key=key)
        matches = await expand(connection.backend, path)
        if not matches:
            if await remote_stat(connection.backend, path) is None:
                raise MissingFileError(f"Nothing matches {remote}.", hint="List the directory to see what is there.")
            return await _download_one(connection, path, Path(local), meter, into=into, wait=wait, key=key)
        directory = Path(local)
        if directory.exists() and not directory.is_dir():
            raise InvalidRequestError(f"{directory} is no directory.", hint="A pattern needs one to write into.")
        report, failures = Report(), Failures()
        for match in matches:
            directory.mkdir(parents=True, exist_ok=True)
            target = directory / posixpath.basename(match)
            with failures.collect(match):
                report += await _download_one(connection, match, target, meter, into=False, wait=wait, key=key)
        if not report.pending:  # else another call follows, which says so
            failures.raise_any(remote)
        return report


async def _download_one(
    connection: Connection, path: str, target: Path, meter: Meter, *, into: bool, wait: bool, key: str | None
) -> Report:
    name = posixpath.basename(path)
    if not is_askable(connection.backend, path):
        async with staged(connection, path) as second:
            here = (
                target / name if into or (target.is_dir() and not await _is_directory(connection, second)) else target
            )
            if into:
                target.mkdir(parents=True, exist_ok=True)
            return await _download_one(connection, second, here, meter, into=False, wait=True, key=key)
    status = await connection.backend.stat(path)
    if is_directory(status):
        return await download_tree(connection, path, target, meter, wait=wait, key=key or str(target.absolute()))
    if into:
        target.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target = target / name
    size = status["size"]
    if (
        size > connection.backend.max_direct_download
        and Capability.CONTENT not in connection.backend.capabilities
        and not moves_in_pieces(connection.backend)
    ):
        path = await _without_links(connection, path)
    meter.total = meter.done + size
    may_be_here = size >= _WORTH_ASKING and target.is_file() and target.stat().st_size == size
    if may_be_here:
        is_newer_here = status["mtime"] < target.stat().st_mtime
        if await is_same(connection.backend, path, size, await sha256(target), otherwise=is_newer_here):
            return Report(skipped=1)
    if not wait and takes_a_job(connection.backend, path, size, connection.backend.max_direct_download):
        transfer = await begin_download(connection, path, status, target)
        if transfer is not None:
            return Report(pending=(transfer.job_id,), temporary=transfer.temporary)
    return Report(files=1, bytes=await download_file(connection, path, status, target, meter))


async def _is_directory(connection: Connection, path: str) -> bool:
    return is_directory(await connection.backend.stat(path))


async def _without_links(connection: Connection, path: str) -> str:
    """Where a link leads, and the next one: FirecREST's transfer job takes a link's own length for the file's."""
    for _ in range(_MOST_LINKS):
        found = await connection.backend.list(path, hidden=True)
        if len(found) != 1 or found[0].type is not FileType.LINK or not found[0].link_target:
            return path
        path = posixpath.join(posixpath.dirname(path), found[0].link_target)
    raise InvalidRequestError(f"{path} leads through more than {_MOST_LINKS} links.", hint="Name the file itself.")
