"""Temporary files and directories on the other machine, which are removed however their use ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from crestline.gateway.hosts.base import TemporaryFiles
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.errors import refusal


class Temporaries:
    """Temporary files of one user on the machine, removed after a failure."""

    def __init__(self, user: str, commands: SshCommands, files: TemporaryFiles) -> None:
        self._user = user
        self._commands = commands
        self._files = files

    @asynccontextmanager
    async def use(self, path: str, *, is_renamed: bool) -> AsyncIterator[None]:
        """Record a temporary name and use it. After a failure, remove it.

        Args:
            path: the temporary name.
            is_renamed: whether success renames the file, so that it need not be removed.
        """
        await self._files.begin(self._user, path)
        done = False
        try:
            yield
            done = is_renamed
        finally:
            await _shielded(self._end(path, is_gone=done))

    async def remove(self, path: str) -> None:
        """Remove the file or directory, if it exists.

        Raises:
            CrestlineError: it cannot be removed.
        """
        argv = ["rm", "--recursive", "--force", "--", path]
        result = await self._commands.run(self._user, argv, env=PLAIN, timeout=None)
        if result.exit_status:
            raise refusal("rm", result)

    async def _end(self, path: str, *, is_gone: bool) -> None:
        is_gone = is_gone or await self._commands.cleanup(self._user, ["rm", "--recursive", "--force", "--", path])
        await self._files.end(self._user, path, is_gone=is_gone)


async def _shielded(work: Coroutine[Any, Any, None]) -> None:
    """Finish the work even if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    await asyncio.shield(task)


_running: set[asyncio.Future[None]] = set()
