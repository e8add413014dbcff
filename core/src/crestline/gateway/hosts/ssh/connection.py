"""One connection to the machine as one user, and what is open on it."""

from __future__ import annotations

import asyncio
import time

import asyncssh

from crestline.gateway.hosts.ssh.settings import SshSettings


class Connection:
    """Counts its channels; one of them, kept open, is the SFTP session that all file transfers share."""

    def __init__(self, ssh: asyncssh.SSHClientConnection, expires: float | None, settings: SshSettings) -> None:
        self.ssh = ssh
        self.commands = 0
        """channels in use, or about to be"""
        self.transfers = 0
        """users of the SFTP session"""
        self._capacity = max(settings.max_sessions - 1, 1)
        self._expires = expires
        self._idle_timeout = settings.timeout.idle_timeout
        self._start_timeout = settings.timeout.command_execution
        self._last_used = time.monotonic()
        self._sftp: asyncio.Task[asyncssh.SFTPClient] | None = None
        self._dropped = False

    @property
    def is_open(self) -> bool:
        """Whether it counts as one of the machine's connections."""
        return not (self._dropped or self.ssh.is_closed())

    @property
    def is_usable(self) -> bool:
        """Whether something new may begin on it."""
        return self.is_open and (self._expires is None or time.time() < self._expires)

    @property
    def has_room(self) -> bool:
        """Whether one more command may run on it."""
        return self.is_usable and self.commands < self._capacity

    @property
    def is_busy(self) -> bool:
        """Whether anything is open on it."""
        return bool(self.commands or self.transfers)

    @property
    def is_idle(self) -> bool:
        """Whether it has been out of use for long enough to be closed."""
        return not self.is_busy and (not self.is_usable or self.idle_for > self._idle_timeout)

    @property
    def idle_for(self) -> float:
        """Seconds since its last use."""
        return time.monotonic() - self._last_used

    def used(self) -> None:
        """Take note of a use that ends."""
        self._last_used = time.monotonic()

    def refused(self) -> bool:
        """The server has fewer sessions than we thought: use as many as it gave. False if it gave none at present."""
        self._capacity = max(self.commands - 1, 1)
        return self.commands > 1

    async def sftp(self) -> asyncssh.SFTPClient:
        """The SFTP session; paths are bytes.

        Raises:
            asyncssh.Error: the server has none, or the connection is gone.
            TimeoutError: the server does not begin it.
        """
        if self._sftp is None or (self._sftp.done() and _result(self._sftp) is None):
            self._sftp = asyncio.ensure_future(self._start_sftp())
        return await asyncio.shield(self._sftp)

    async def _start_sftp(self) -> asyncssh.SFTPClient:
        async with asyncio.timeout(self._start_timeout):  # so that the next transfer does not wait for this one's
            return await self.ssh.start_sftp_client(path_encoding=None)

    def forget_sftp(self, session: asyncssh.SFTPClient | None) -> None:
        """The SFTP session is of no use any more, with all that is open in it: the next transfer opens another."""
        if session is not None:
            session.exit()
        if self._sftp is not None and self._sftp.done() and session in (None, _result(self._sftp)):
            self._sftp = None

    def drop(self) -> None:
        """Close it without waiting for the server."""
        self._dropped = True
        self.ssh.close()

    async def close(self) -> None:
        """Disconnect from the server."""
        if self._sftp is not None:
            self._sftp.cancel()
        self.ssh.close()
        await self.ssh.wait_closed()


def _result(task: asyncio.Task[asyncssh.SFTPClient]) -> asyncssh.SFTPClient | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
