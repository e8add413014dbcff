"""A connection to the machine as one user, with its channels."""

from __future__ import annotations

import asyncio
import time

import asyncssh

from crestline.gateway.hosts.ssh.settings import SshSettings


class Connection:
    """Counts its channels. One of them, which stays open, is the SFTP session of all file transfers."""

    def __init__(self, ssh: asyncssh.SSHClientConnection, expires: float | None, settings: SshSettings) -> None:
        self.ssh = ssh
        self.commands = 0
        """Channels in use, or about to be."""
        self.transfers = 0
        """Users of the SFTP session."""
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
        """Whether a new channel can be opened."""
        return self.is_open and (self._expires is None or time.time() < self._expires)

    @property
    def has_free_slot(self) -> bool:
        """Whether one more command can run on it."""
        return self.is_usable and self.commands < self._capacity

    @property
    def is_busy(self) -> bool:
        """Whether a channel is open."""
        return bool(self.commands or self.transfers)

    @property
    def is_idle(self) -> bool:
        """Whether it has been unused long enough to be closed."""
        return not self.is_busy and (not self.is_usable or self.idle_for > self._idle_timeout)

    @property
    def idle_for(self) -> float:
        """Seconds since its last use."""
        return time.monotonic() - self._last_used

    def used(self) -> None:
        """Record the end of a use."""
        self._last_used = time.monotonic()

    def refused(self) -> bool:
        """Lower the limit of sessions to the number that the server allowed. Return False if it allows none at
        present."""
        self._capacity = max(self.commands - 1, 1)
        return self.commands > 1

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the SFTP session. Its paths are bytes.

        Raises:
            asyncssh.Error: the server has no SFTP, or the connection is lost.
            TimeoutError: the server does not start the session.
        """
        if self._sftp is None or (self._sftp.done() and _result(self._sftp) is None):
            self._sftp = asyncio.ensure_future(self._start_sftp())
        return await asyncio.shield(self._sftp)

    async def _start_sftp(self) -> asyncssh.SFTPClient:
        # so that the next transfer does not wait for this one's session
        async with asyncio.timeout(self._start_timeout):
            return await self.ssh.start_sftp_client(path_encoding=None)

    def forget_sftp(self, session: asyncssh.SFTPClient | None) -> None:
        """Discard an SFTP session that is no longer usable. The next transfer opens another one."""
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
