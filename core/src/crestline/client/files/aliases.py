"""Plain names, for their time, of what plain FirecREST cannot be asked for by its own."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from crestline.client.files.strategy import FileStrategy
from crestline.client.remote_names import is_job_safe_path, temporary_path


@asynccontextmanager
async def alias_for_jobs(strategy: FileStrategy, directory: str) -> AsyncIterator[str]:
    """A path of a directory that may enter scripts of transfer jobs: its own, or for its time that of a link to it."""
    if is_job_safe_path(directory):
        yield directory
        return
    link = await temporary_path(strategy.backend)
    await strategy.backend.files.symlink(directory, link)
    try:
        yield link
    finally:
        with anyio.CancelScope(shield=True):
            await strategy.remove(link)


@asynccontextmanager
async def file_for_jobs(strategy: FileStrategy, path: str) -> AsyncIterator[str]:
    """As `alias_for_jobs`, for a file; where its own name is the odd one, a job gives it a second."""
    directory, name = posixpath.split(path)
    if is_job_safe_path(name):
        async with alias_for_jobs(strategy, directory) as place:
            yield posixpath.join(place, name)
        return
    async with staged(strategy, path) as second:
        yield second


@asynccontextmanager
async def staged(strategy: FileStrategy, path: str) -> AsyncIterator[str]:
    """For its time, a plain name for a file or directory that cannot be asked for by its own; a job makes it."""
    name = await temporary_path(strategy.backend)
    try:
        await strategy.finish(await strategy.backend.transfers.stage(path, name))
        yield name
    finally:
        with anyio.CancelScope(shield=True):
            await strategy.remove_if_exists(name)
