"""Copying and moving within the system, once, also where the answer to it is lost."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import AsyncIterator

import anyio

from crestline.client.backends.lost_answers import exists, is_missing, settle
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.tree import list_tree
from crestline.client.remote_names import is_directory, remote_stat, temporary_name
from crestline.model import FileMissingError, TransferError

_LOOKS = 10
_LOOK_INTERVAL = 2.0
"""seconds; so often the copy of a directory is compared whose answer was lost"""


async def move(strategy: FileStrategy, source: str, target: str) -> None:
    """Rename or move, into `target` if that is a directory.

    Raises:
        FileMissingError: `source` does not exist.
        TransferError: the job that moves it failed.
    """
    files = strategy.backend.files

    async def send() -> None:
        async with _naming_missing(strategy, source):
            await strategy.finish(await files.move(source, target))

    async def is_done() -> bool:
        is_askable = _are_askable(strategy, source, target)
        return is_askable and await is_missing(files, source) and await exists(files, target)

    await settle(send, is_done)


async def copy(strategy: FileStrategy, source: str, target: str) -> None:
    """Copy a file or a directory, into `target` if that is a directory.

    Raises:
        FileMissingError: `source` does not exist.
        TransferError: the job that copies it failed, or what it made of a directory is not complete.
    """
    is_askable = _are_askable(strategy, source, target)
    into = is_askable and is_directory(await remote_stat(strategy.backend, target))
    is_second = False

    async def send() -> None:
        if is_second:
            await _copy_beside(strategy, source, target)
        else:
            async with _naming_missing(strategy, source):
                await strategy.finish(await strategy.backend.files.copy(source, target))

    async def is_done() -> bool:
        nonlocal is_second
        # A file may be copied once more. A directory would go into what the first copy has made or is about to make.
        is_second = not into and is_askable and is_directory(await remote_stat(strategy.backend, source))
        return is_second and await _is_complete(strategy, source, target)

    await settle(send, is_done)


@contextlib.asynccontextmanager
async def _naming_missing(strategy: FileStrategy, source: str) -> AsyncIterator[None]:
    """Say that the source does not exist in place of the failure of a job."""
    try:
        yield
    except TransferError as error:
        if not _are_askable(strategy, source) or await exists(strategy.backend.files, source):
            raise
        raise FileMissingError(f"{source} does not exist on the system.", hint="Check its name.") from error


async def _copy_beside(strategy: FileStrategy, source: str, target: str) -> None:
    """Copy a directory under a temporary name, and give it its own if there is still nothing of that name."""
    beside = posixpath.join(posixpath.dirname(target.rstrip("/")), temporary_name())
    await strategy.finish(await strategy.backend.files.copy(source, beside))
    if await exists(strategy.backend.files, target):
        await strategy.remove(beside)
        await _is_complete(strategy, source, target)
    else:
        await move(strategy, beside, target)


async def _is_complete(strategy: FileStrategy, source: str, target: str) -> bool:
    """Whether a directory has been copied; False if there is nothing yet, or something else.

    Raises:
        TransferError: files are missing, also after some time.
    """
    for look in range(_LOOKS):
        await anyio.sleep(_LOOK_INTERVAL if look else 0)
        if not is_directory(await remote_stat(strategy.backend, target)):
            return False
        there, here = [(await list_tree(strategy.backend, path)).files for path in (source, target)]
        if all(name in here and here[name].size == file.size for name, file in there.items()):
            return True
    raise TransferError(
        f"The answer to copying {source} was lost, and {target} is not complete.", hint="Remove it, and copy again."
    )


def _are_askable(strategy: FileStrategy, *paths: str) -> bool:
    return all(strategy.is_askable(path) for path in paths)
