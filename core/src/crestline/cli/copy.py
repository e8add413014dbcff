"""`crestline cp`: transfer each source and name the results as cp(1) does."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.cli.path_argument import RemotePath
from crestline.cli.remote import is_directory, naming_missing_directory
from crestline.cli.several import Several
from crestline.client.files import Progress, TransferReport
from crestline.model import FileMissingError, InvalidRequestError

if TYPE_CHECKING:
    from crestline.client import System


async def copy_all(
    system: System,
    sources: Sequence[RemotePath],
    target: RemotePath,
    *,
    recursive: bool,
    progress: Progress | None,
    json: bool,
) -> TransferReport:
    """Copy every source. A source that fails does not prevent the others from being copied.

    Raises:
        InvalidRequestError: a directory without `recursive`, or several sources and a target that is not a directory.
    """
    report = TransferReport()
    several = Several([source.path for source in sources], json=json)
    for source in sources:
        with several.one(source.path):
            if not target.remote:
                report += await _fetch(system, source.path, target.path, recursive, progress, several=len(sources) > 1)
            elif not source.remote:
                report += await _send(system, source.path, target.path, recursive, progress, several=len(sources) > 1)
            else:
                await system.copy(await system.resolve_path(source.path), await system.resolve_path(target.path))
                report += TransferReport(files=1)
    several.raise_any()
    return report


async def _send(
    system: System, source: str, target: str, recursive: bool, progress: Progress | None, *, several: bool
) -> TransferReport:
    path = await system.resolve_path(target)
    local = Path(source)
    if not local.exists() and not local.is_symlink():
        raise FileMissingError(f"{source} does not exist on this machine.", hint="Check its name.")
    into = several or _names_a_directory(target)
    if local.is_dir():
        _check_recursive(source, recursive)
        path = posixpath.join(path, local.resolve().name) if into else path
    else:
        into = into or await is_directory(system, path)
        path = path.rstrip("/") + "/" if into else path
    async with naming_missing_directory(system, path):
        return await system.upload(local, path, progress=progress)


async def _fetch(
    system: System, source: str, target: str, recursive: bool, progress: Progress | None, *, several: bool
) -> TransferReport:
    path = await system.resolve_path(source)
    into = several or _names_a_directory(target)
    if await is_directory(system, path):
        _check_recursive(source, recursive)
        local = Path(target, posixpath.basename(posixpath.normpath(path))) if into else Path(target)
        return await system.download(path, local, progress=progress)
    into = into or Path(target).is_dir()
    async with naming_missing_directory(system, path):
        return await system.download(path, target.rstrip("/") + "/" if into else target, progress=progress)


def _names_a_directory(target: str) -> bool:
    """Whether the target is spelled as a directory. The spelling decides, so that a repeated command does the same."""
    return posixpath.basename(target) in ("", ".", "..")


def _check_recursive(name: str, recursive: bool) -> None:
    if not recursive:
        raise InvalidRequestError(f"{name} is a directory.", hint="Copy it with -r.")
