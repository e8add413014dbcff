"""Reads files by SFTP."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncssh

from crestline.gateway.hosts.base import OpenFile
from crestline.gateway.hosts.refusals import not_regular
from crestline.gateway.hosts.ssh import pipelining
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.errors import reading, transferring
from crestline.gateway.hosts.ssh.pools import Pools
from crestline.gateway.paths import printable
from crestline.model import GatewayUnavailableError, InvalidRequestError

_ATTEMPTS = 5
"""Attempts to open a file and verify that it still has its name."""


class SshFile(OpenFile):
    """A file that the SFTP server holds open; see `open_file`."""

    def __init__(
        self,
        system: str,
        path: str,
        handle: asyncssh.SFTPClientFile,
        limits: asyncssh.SFTPLimits,
        stall: float,
        leave: AsyncExitStack,
    ) -> None:
        self._system = system
        self._path = path
        self._handle = handle
        self._limits = limits
        self._stall = stall
        self._leave = leave

    async def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        end = self.size if length is None else offset + length
        with transferring(self._system, "read", self._path):
            async for block in pipelining.read(self._handle, self._limits, offset, end, self._stall):
                yield block

    async def close(self) -> None:
        with transferring(self._system, "read", self._path):
            await self._leave.aclose()


async def open_file(system: str, path: str, user: str, pools: Pools, commands: SshCommands, stall: float) -> SshFile:
    """Open a regular file.

    Its entity tag is made from stat(1), because SFTP has whole seconds and no inode. The open file must agree with it.
    """
    name = os.fsencode(path)
    with transferring(system, "read", path):
        async with AsyncExitStack() as stack, asyncio.timeout(stall):
            sftp = await stack.enter_async_context(pools.of(user).sftp())
            for _attempt in range(_ATTEMPTS):
                # Checked before it is opened, because the server would wait for the writer of a pipe.
                check_regular(await sftp.stat(name), path)
                handle = await sftp.open(name, asyncssh.FXF_READ, encoding=None, block_size=0)
                opened = AsyncExitStack()
                opened.push_async_callback(_close, handle, stall)
                async with opened:
                    status, mark = await asyncio.gather(handle.stat(), _mark(user, path, commands, stall))
                    if mark is not None and mark[1:3] == (status.size, status.mtime):
                        stack.push_async_exit(opened.pop_all())
                        break
            else:
                raise GatewayUnavailableError(
                    f"read: '{printable(path)}' changed each time it was opened.", hint="Try again.", retry_after=1
                )
            file = SshFile(system, path, handle, sftp.limits, stall, stack.pop_all())
    inode, size, _, nanoseconds = mark
    file.size = size
    file.etag = f"{inode:x}-{size:x}-{nanoseconds:x}"
    file.modified = nanoseconds / 1e9
    return file


def check_regular(status: asyncssh.SFTPAttrs, path: str) -> None:
    """Refuse a path that is not a regular file.

    Raises:
        InvalidRequestError: it is a directory, a device, a FIFO or a socket.
    """
    mode = status.permissions or 0
    if stat.S_ISDIR(mode):
        raise InvalidRequestError(f"cannot access '{path}': Is a directory")
    if not stat.S_ISREG(mode):
        raise not_regular(path)


async def _mark(user: str, path: str, commands: SshCommands, timeout: float) -> tuple[int, int, int, int] | None:
    """Return inode, size, and time of modification in seconds and in nanoseconds of the file that has the name now."""
    argv = ["stat", "--dereference", "--printf=%i %s %.9Y", "--", path]
    result = await commands.run(user, argv, env=PLAIN, timeout=timeout)
    if result.exit_status:
        return None
    with reading("stat"):
        inode, size, modified = result.stdout.split()
        seconds, _, fraction = modified.partition(b".")
        return int(inode), int(size), int(seconds), int(seconds) * 10**9 + int(fraction or 0)


async def _close(handle: asyncssh.SFTPClientFile, timeout: float) -> None:
    """Close an open file, unless its session is lost."""
    try:
        async with asyncio.timeout(timeout):
            await handle.close()
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
        return
