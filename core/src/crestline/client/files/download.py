"""`download`: files and directories from a system."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from crestline.client.files.aliases import staged
from crestline.client.files.download_file import download_file
from crestline.client.files.download_tree import download_tree
from crestline.client.files.failures import Failures
from crestline.client.files.local import local_errors, sha256
from crestline.client.files.report import Meter, Progress, TransferReport
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.verify import is_same
from crestline.client.remote_names import (
    check_remote,
    expand,
    has_pattern,
    is_directory,
    remote_stat,
)
from crestline.model import FileMissingError, FileType, InvalidRequestError

# Asking first whether the file is here already pays from here on.
_WORTH_ASKING = 1024 * 1024
_MOST_LINKS = 40


async def download(
    strategy: FileStrategy,
    remote: str,
    local: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    wait: bool = True,
    key: str | None = None,
) -> TransferReport:
    """Download a file or a directory. Files that are equal on both sides are not fetched.

    A file is written as `local`. If `local` is a directory or ends in `/`, the file is written into that directory,
    which is created if necessary. The content of a directory is written into the directory `local`. If `remote` is a
    shell pattern (`*`, `?`, `[...]`), `local` is a directory, and the matches are written into it under their own
    names.

    Every file appears complete and verified or not at all. An interrupted download resumes at the same byte, also in a
    later call.

    Args:
        strategy: the transfer methods of the system; `System.download` supplies them.
        remote: absolute path or pattern on the system.
        local: file or directory on this machine.
        progress: called with the transferred bytes, the total bytes and the name of the file.
        wait: False returns while jobs of a plain FirecREST still run: those that move a large file to the object store,
            or pack a directory. When the jobs in `TransferReport.pending` have ended, repeat the call on this machine,
            which knows what is in the store. It may return further jobs.
        key: name of the transfer. Calls with the same key resume the same archive of a directory. Default: the
            absolute path of `local`.

    Returns:
        the number of files and bytes fetched, and what is pending.

    Raises:
        FileMissingError: `remote` does not exist, or the pattern has no match.
        TransferError: a file arrived with other content. The other files of a directory or pattern have arrived.
    """
    meter = Meter(progress)
    path = check_remote(remote)
    into = os.fspath(local).endswith(("/", os.sep))
    with local_errors():
        if not has_pattern(path):
            return await _download_one(strategy, path, Path(local), meter, into=into, wait=wait, key=key)
        matches = await expand(strategy.backend, path)
        if not matches:
            if await remote_stat(strategy.backend, path) is None:
                raise FileMissingError(f"Nothing matches {remote}.", hint="List the directory to see what is there.")
            return await _download_one(strategy, path, Path(local), meter, into=into, wait=wait, key=key)
        directory = Path(local)
        if directory.exists() and not directory.is_dir():
            raise InvalidRequestError(f"{directory} is not a directory.", hint="A pattern needs one to write into.")
        report, failures = TransferReport(), Failures()
        for match in matches:
            directory.mkdir(parents=True, exist_ok=True)
            target = directory / posixpath.basename(match)
            with failures.collect(match):
                report += await _download_one(strategy, match, target, meter, into=False, wait=wait, key=key)
        if not report.pending:  # else another call follows, which says so
            failures.raise_any(remote)
        return report


async def _download_one(
    strategy: FileStrategy, path: str, target: Path, meter: Meter, *, into: bool, wait: bool, key: str | None
) -> TransferReport:
    name = posixpath.basename(path)
    if not strategy.is_askable(path):
        async with staged(strategy, path) as second:
            here = target / name if into or (target.is_dir() and not await _is_directory(strategy, second)) else target
            if into:
                target.mkdir(parents=True, exist_ok=True)
            return await _download_one(strategy, second, here, meter, into=False, wait=True, key=key)
    status = await strategy.backend.files.stat(path)
    if is_directory(status):
        return await download_tree(strategy, path, target, meter, wait=wait, key=key or str(target.absolute()))
    if into:
        target.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target = target / name
    size = status["size"]
    path = await strategy.path_to_fetch(path, size)
    meter.total = meter.done + size
    may_be_here = size >= _WORTH_ASKING and target.is_file() and target.stat().st_size == size
    if may_be_here:
        is_newer_here = status["mtime"] < target.stat().st_mtime
        if await is_same(strategy, path, size, await sha256(target), otherwise=is_newer_here):
            return TransferReport(unchanged=1)
    if not wait and (transfer := await strategy.begin_fetch(path, status, target)) is not None:
        return TransferReport(pending=(transfer.job_id,), temporary=transfer.temporary)
    return TransferReport(files=1, bytes=await download_file(strategy, path, status, target, meter))


async def _is_directory(strategy: FileStrategy, path: str) -> bool:
    return is_directory(await strategy.backend.files.stat(path))


async def without_links(strategy: FileStrategy, path: str) -> str:
    """Where a link leads, and the next one: FirecREST's transfer job takes a link's own length for the file's."""
    for _ in range(_MOST_LINKS):
        found = await strategy.backend.files.list(path, hidden=True)
        if len(found) != 1 or found[0].type is not FileType.LINK or not found[0].link_target:
            return path
        path = posixpath.join(posixpath.dirname(path), found[0].link_target)
    raise InvalidRequestError(f"{path} leads through more than {_MOST_LINKS} links.", hint="Name the file itself.")
